// Package wal is THE LOG: the replication stream as bytes by offset, in a Pebble database. It is write-ahead log,
// replication backlog and history at once. It knows framing, not meaning.
//
// # Offsets
//
// An Offset is the number of bytes of the stream before a place, exactly as Redis's master_repl_offset counts them (W1).
// PSYNC's request o, which is 1-based, names the byte at Offset o-1.
//
// # Format
//
// A Pebble database; its own commit log is in the directory commit/ within. One key for each chunk, and a few for metadata:
//
//	'c' start(8, big endian)        a chunk: header and bytes of the stream
//	'm' "format"                    uvarint version of this format: 1
//	'm' "lineage"                   JSON array of LineageEntry, oldest first
//	'm' "begin"                     8 bytes, big endian: where a log without chunks stands; absent: at 0
//
//	chunk header, 19 bytes:
//	  0   1  version, 1
//	  1   1  flags; 1: what precedes the chunk was durable when it was written
//	  2   8  unix ms when the chunk was written, big endian
//	  10  4  database selected in the stream at its start, big endian
//	  14  4  CRC-32C of header bytes 0–13, of the chunk's start offset, and of the bytes
//	  18  1  reserved, 0
//	  19  …  RESP: whole records
//
// Chunks are dense: next start = start + length (W1). A record is one command, or a whole MULTI … EXEC; no chunk splits
// one (W2). So every chunk boundary is a record boundary, and whatever prefix of the chunks a crash leaves is a log.
//
// Tables of chunks never overlap and are never compacted: a byte of the log is written twice, to the commit log and to a
// table. They are not compressed.
//
// # Writing
//
// Append, by one executor at a time, copies records into memory and gives them their offset; it neither blocks nor fails
// (A2). One goroutine, the committer, writes what has gathered as chunks, in Pebble batches (or, under always, the caller of
// CommitNow does). A second one, the syncer,
// makes durable what was written without a sync:
//
//   - always: the committer's batches carry a sync.
//   - everysec: batches without sync, and a sync every second that covers all of them.
//   - no: batches without sync; the system writes when it likes, Sync and Close do it on demand.
//
// With SetContinuousSync, batches carry a sync under everysec and no, too: replicas get durable bytes only (W5).
//
// The commit point of bytes is the return of the sync that covers them; Durable moves then, and not earlier.
//
// # What a crash leaves
//
//	Append      what was durable, and perhaps more: whole batches of whole chunks, in their order, without a gap. So the log
//	            ends on a record boundary at or after the Durable that was announced (W4), and Open has nothing to cut
//	BeginID     the old lineage or the new one: one batch with a sync, after all bytes were made durable
//	TruncateTo  the log before or after: chunks, lineage and begin change in one batch with a sync. What is deleted is then
//	            excised from the tables; if a crash comes first, it stays behind unseen, as some space
//	Reset       likewise
//	Trim        done or not done: one edit of Pebble's MANIFEST
//	Open        of a new directory, before Pebble has made its first files durable: a directory that cannot be opened, in
//	            which nobody has been promised anything
//
// # Damage
//
// What a disk has changed is found by checksums: Pebble's of blocks and pieces, and the chunk's own. Open looks at the newest chunk,
// Check at all. The end of the commit log is another matter: there damage looks like what a crash leaves, and Pebble takes it for
// that. Open therefore looks behind it for a chunk with flag 1, and refuses a log that has lost what was durable (see commitScan).
// It has to be there before Pebble opens the log, because then the file is deleted.
//
// # Failure
//
// When a write or sync fails, the log has failed for good: OnFailure is called once, Err, Sync and every WaitDurable return
// the error, Durable stays where it is, and Append goes on giving offsets that will never be durable. Nothing is tried again
// as if nothing had happened: after a failed fsync the system may have dropped what it could not write. Tables are another
// matter: their bytes are safe in the commit log, Pebble writes them again, and the log only waits once its memtables are
// full. How Pebble, which takes none of this well, is brought to it: see guardFS.
//
// # Concurrency
//
// Append: one caller at a time. BeginID: while nobody appends. TruncateTo and Reset: while nobody appends or reads.
// A Reader: one goroutine at a time. Everything else: any number of goroutines. OnDurable is called by whoever has synced, be
// it the committer, the syncer or a caller of CommitNow, never by two at once and with growing offsets; OnFailure by a
// goroutine of its own. Both must not call Close.
//
// Locks, in the order in which they are taken: admin, dbMu (shared), writing, Pebble's own, telling, the ring's or mu. Pebble calls
// fail under locks of its own, so nobody calls Pebble while holding telling, mu or the ring's.
package wal
