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
// One Pebble key for each chunk, and a few for metadata:
//
//	'c' start(8, big endian)        a chunk: header and bytes of the stream
//	'm' "format"                    uvarint version of this format: 1
//	'm' "lineage"                   JSON array of LineageEntry, oldest first
//
//	chunk header, 19 bytes:
//	  0   1  version, 1
//	  1   1  flags, 0
//	  2   8  unix ms when the chunk was written, big endian
//	  10  4  database selected in the stream at its start, big endian
//	  14  4  CRC-32C of header bytes 0–13, of the chunk's start offset, and of the bytes
//	  18  1  reserved, 0
//	  19  …  RESP: whole records
//
// Chunks are dense: next start = start + length (W1). A record is one command, or a whole MULTI … EXEC; no chunk splits
// one (W2). So every chunk boundary is a record boundary, and whatever prefix of the chunks a crash leaves is a log.
//
// # Writing
//
// Append, by one executor at a time, copies records into memory and gives them their offset; it neither blocks nor fails
// (A2). One goroutine, the committer, writes what has gathered as one chunk and syncs it as the policy asks:
//
//   - always: one Pebble batch with a sync. The commit point is the return of that sync; Durable moves then.
//   - everysec: batches without sync, and a sync every second that covers all of them.
//   - no: batches without sync; the system writes when it likes, Sync and Close do it on demand.
//
// After a crash Pebble recovers a prefix of its batches. A batch is a whole chunk, so the log ends on a record boundary at
// or after the durable offset that was announced (W4). Open checks the newest chunks and begins there; nothing has to be
// cut unless TruncateTo asks for it.
//
// BeginID writes the lineage with a sync of its own: a crash leaves the old lineage or the new one. Trim deletes a prefix of
// chunks by a range delete; a crash leaves it done or not.
//
// # Failure
//
// When a write or sync fails, the log has failed for good: OnFailure is called once, Err and every WaitDurable return the
// error, Durable stays where it is, and Append goes on giving offsets that will never be durable. Nothing is tried again
// as if nothing had happened: after a failed fsync the system may have dropped what it could not write.
//
// # Concurrency
//
// Append: one caller at a time. Everything else: any number of goroutines.
package wal
