// Package snapshot is THE DATA AT ONE OFFSET: the snapshot store, a Pebble database that stands at exactly one offset C of
// the log at any time. It knows rows (server/keyspace tells their keys), not Redis commands.
//
// # Format
//
// Pebble's own WAL is disabled and its memtable stays empty: the database changes only by Ingest of sorted tables (S2). The
// row 'm' holds the meta row, JSON of Meta with a format version.
//
// # A checkpoint, and what a crash leaves
//
//  1. NewIngest writes tables beside the database, in the directory "ingest". A crash leaves files there; Open deletes
//     them.
//  2. Commit syncs the tables and their directory. A crash leaves the same.
//  3. Commit calls Pebble's Ingest once with all tables, among them one with the meta row that carries the new C, which is
//     never empty. This is one version edit, and the commit point: before it the store is at the old C with the old rows,
//     after it at the new C with the new rows, never in between.
//
// An Ingest that fails before the commit point leaves the store as it was; Abort removes its tables.
//
// # Measured
//
// Rows of 20-byte keys and 100 random bytes do not compress; JSON-like values do, by 3 to 5. Snappy costs 4 % of a
// checkpoint's time on the former, so it is used on all levels. Bloom filters of 10 bits answer for 99 % of the keys that
// do not exist without reading a block.
//
// # Concurrency
//
// A Store: any number of goroutines. One Ingest at a time, used by one goroutine.
package snapshot
