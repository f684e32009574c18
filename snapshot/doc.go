// Package snapshot is THE DATA AT ONE OFFSET: the snapshot store, a Pebble database that stands at exactly one offset C of
// the log at any time. It knows rows (server/keyspace tells their keys), not Redis commands.
//
// # Format
//
// A directory with a Pebble database, whose own write-ahead log is disabled and whose memtable stays empty: the database
// changes only by the ingest of sorted tables (S2). Rows, in their order:
//
//	'a'   the meta row: JSON of Meta. "Format" is the version, 1; a program refuses one that it does not know
//	'k'…  main rows, one for each key
//	'o'…  element rows of big collections
//	'x'…  expiry rows, without a value
//
// Their keys are told in server/keyspace/rowkey.go, the values of main rows in server/keyspace/row.go. The directory
// "ingest" within holds the tables of the ingest under way and is empty otherwise. Pebble's format version is fixed by
// name, so that a newer Pebble does not change files unasked.
//
// # A checkpoint, and what a crash leaves
//
//	NewIngest, Set, …  tables of bounded size in "ingest". They do not overlap: range deletes are cut apart where tables
//	                   end. A crash leaves files there, which Open deletes
//	Commit             1. syncs each table and the directory "ingest". A crash leaves the same
//	                   2. has Pebble link all tables, among them one with the meta row that carries the new C, into the
//	                      store's directory, and sync that. A crash leaves tables that no manifest names; Open deletes them
//	                   3. has Pebble append one edit to its manifest and sync it. THIS IS THE COMMIT POINT: before it the
//	                      store is at the old C with the old rows, after it at the new C with the new rows, never in
//	                      between. A crash in its middle leaves one or the other
//	                   4. has Pebble delete the files in "ingest". A crash leaves some, which Open deletes
//	Abort              some of the files in "ingest"
//	Open               what was there before. A crash while a new store is made leaves one at C = 0, or nothing
//	Copy               a directory that may be incomplete, to be deleted; the store itself is not touched
//	compactions        the same rows in other tables, by one edit of the manifest each
//
// The meta row has a table of its own because Pebble drops empty tables: a checkpoint without rows still moves C.
//
// # Failure
//
// An error up to step 2, a full disk for one, leaves the store at the old C and usable; Commit and Abort delete the tables,
// and what cannot be deleted then is so by the next NewIngest; only where the sync in step 2 fails, links stay until the next
// Open. A failed step 3 leaves open whether it has happened.
// Options.OnFatal is called and must not return: the next Open finds out. (Where the manifest's directory cannot be
// synced, Pebble itself panics, to the same end.)
//
// A damaged block gives whoever reads it a *CorruptionError; other rows can still be read. Compactions that meet it fail
// and are tried again.
//
// # Concurrency
//
// A Store is for any number of goroutines. One Ingest at a time, used by one goroutine; reads, views and compactions go on
// meanwhile. A View or Iter is for one goroutine.
//
// # Measured
//
// Two cores of a Xeon that others used as well; Pebble v2.1.7; the benchmarks are in this package.
//
// Bytes written by the store for a byte of log, in a steady load that overwrites 3 million keys of 20 + 100 bytes evenly;
// every checkpoint overlaps everything (BenchmarkWriteAmp, 24 checkpoints). The log itself writes 2 more.
//
//	log between checkpoints  L0CompactionThreshold  tables of an ingest  ingested  compacted  together  tables that a read may ask
//	64 MB                    8                      16 MB                0.82      2.29       3.12      5
//	64 MB                    12                     16 MB                0.82      2.04       2.86      7
//	64 MB                    16                     16 MB                0.82      1.94       2.76      9
//	64 MB                    8                      4 MB                 0.82      1.92       2.74      5
//	64 MB                    12                     4 MB                 0.82      1.56       2.39      7
//	64 MB                    16                     4 MB                 0.82      1.29       2.11      9
//	64 MB                    8                      2 MB                 0.82      2.14       2.96      5
//	128 MB                   8                      16 MB                0.77      1.17       1.94      5    (12 checkpoints)
//	256 MB                   4                      16 MB                0.67      1.12       1.79      3    (12 checkpoints)
//	256 MB                   8                      16 MB                0.67      0.67       1.35      5
//
// Pebble merges when half as many tables as the threshold lie upon each other. Hence 8. A merge takes what lies upon one table
// of the lowest checkpoint; the larger that is, the wider is all that overlaps it, and the sooner the merge is large enough to
// leave the upper ones for another, which rewrites the base again. Hence tables of 4 MB in an ingest, and of 16 MB below.
//
// Compression (BenchmarkCompression; CPU includes making the values, and varies by 15 % from run to run): rows of 100 random
// bytes take 1.01 of their size with none and with snappy and 0.92 with zstd; 1.3 µs of CPU a row with none, 1.4 with snappy,
// 1.4 to 2.0 with zstd. JSON of 300 bytes takes 1.01, 0.32 and 0.21; 3.3, 3.1 and 4.2 to 5.1 µs. Snappy costs nothing
// that shows: it is used on all levels.
//
// Reads (BenchmarkGet; medians of three noisy runs, blocks in memory). A row that does not exist: 1.9 µs with the bottom level's
// filters, 9.5 without, which has to read a block. A row that exists: 9.9 against 8.9 µs, in a store where four checkpoints
// lie upon each other 21 against 8: all levels that have a version of it are asked, where Pebble's Get ends at the first.
// The block that a key which does not exist would cost is a read of the disk in data larger than memory, so filters it is.
package snapshot
