//! How RocksDB is set up, table by table, and why.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DataBlockIndexType,
    WriteBufferManager,
};

use crate::Table;

/// RocksDB insists on this one; nothing is in it.
pub(super) const DEFAULT_FAMILY: &str = "default";

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// Files of young data are this large at most, so that one compaction step is short.
const FILE_BYTES: u64 = 64 << 20;
/// What flushes and compactions together may write in a second; they take turns with the log's syncs on the same disk.
const BACKGROUND_BYTES_PER_SECOND: i64 = 256 << 20;

/// How much memory a [`DiskBackend`](super::DiskBackend) may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For blocks read from disk, with their indexes and filters.
    pub cache_bytes: usize,
    /// For what has been committed and not flushed. When it is full, everything is flushed.
    pub write_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 64 * MIB, write_buffer_bytes: 64 * MIB }
    }
}

impl Options {
    pub(super) fn database(&self) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.write_buffer_bytes,
            false,
        ));
        // One writer applies, and at most a compaction beside it.
        options.set_allow_concurrent_memtable_write(false);
        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(MIB as u64);
        options.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, 100_000, 10);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * MIB);
        options.set_stats_dump_period_sec(0);
        options
    }

    pub(super) fn tables(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_hyper_clock_cache(self.cache_bytes, 0);
        let default = ColumnFamilyDescriptor::new(DEFAULT_FAMILY, self.small(&cache));
        let tables = Table::ALL.into_iter().map(|table| {
            let options = match table {
                Table::Rev => self.rev(&cache),
                Table::Index => self.index(&cache),
                Table::Lease
                | Table::Auth
                | Table::AuthUsers
                | Table::AuthRoles
                | Table::Member
                | Table::RemovedMember
                | Table::Cluster
                | Table::Alarm
                | Table::Meta => self.small(&cache),
            };
            ColumnFamilyDescriptor::new(table.name(), options)
        });
        std::iter::once(default).chain(tables).collect()
    }

    /// Keys only grow, so files do not overlap and sink from level to level by being renamed there, as long as all levels are
    /// alike: hence no compression at all rather than some below. Point reads want small blocks. Deletes of compaction
    /// widen the key range of young files; a filter keeps point reads from looking into those.
    fn rev(&self, cache: &Cache) -> rocksdb::Options {
        let mut blocks = blocks(cache, 4 * KIB);
        blocks.set_bloom_filter(10.0, false);
        blocks.set_optimize_filters_for_memory(true);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        let mut options = self.common(&blocks);
        options.set_compression_type(DBCompressionType::None);
        options
    }

    /// Read by seeks and scans, never by whole keys, so filters would not help. Neighbours are versions of one key and compress
    /// well, and larger blocks compress better.
    fn index(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = self.common(&blocks(cache, 8 * KIB));
        options.set_compression_type(DBCompressionType::Lz4);
        options
    }

    fn small(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = self.common(&blocks(cache, 4 * KIB));
        options.set_compression_type(DBCompressionType::None);
        options.set_arena_block_size(16 * KIB);
        options
    }

    fn common(&self, blocks: &BlockBasedOptions) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(blocks);
        // The budget over all tables decides when to flush, not a single table.
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(4);
        options.set_target_file_size_base(FILE_BYTES);
        options.set_max_bytes_for_level_base(4 * FILE_BYTES);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_level_zero_file_num_compaction_trigger(4);
        options
    }
}

fn blocks(cache: &Cache, bytes: usize) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(bytes);
    // Indexes and filters count towards the budget, but go last.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}
