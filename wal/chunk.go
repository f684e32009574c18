package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// Offset is a place in the stream: the number of bytes before it.
type Offset int64

const (
	tagChunk = 'c'
	tagMeta  = 'm'

	formatVersion = 1 // of the whole directory

	chunkVersion   = 1
	chunkHeaderLen = 19
	chunkKeyLen    = 9

	// flagSettled: what precedes the chunk was durable when the chunk was written (see commitScan).
	flagSettled = 1
)

var (
	formatKey  = []byte("mformat")
	lineageKey = []byte("mlineage")
	beginKey   = []byte("mbegin")
	chunkLow   = []byte{tagChunk}
	chunkHigh  = []byte{tagChunk + 1}
	metaLow    = []byte{tagMeta}
	metaHigh   = []byte{tagMeta + 1}
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrChunk says that a chunk cannot be decoded.
var ErrChunk = errors.New("wal: malformed chunk")

// CorruptionError says at which offset the log is damaged.
type CorruptionError struct {
	Offset Offset // -1: it cannot be told
	Err    error
}

// Error is one line: what Pebble adds in further lines says the same again.
func (e *CorruptionError) Error() string {
	cause, _, _ := strings.Cut(e.Err.Error(), "\n")
	if e.Offset < 0 {
		return fmt.Sprintf("wal: corrupt, and the offset cannot be told: %s (%s)", cause, corruptionAdvice)
	}
	return fmt.Sprintf("wal: corrupt at offset %d: %s (what lies before it is intact; %s)", int64(e.Offset), cause, corruptionAdvice)
}

// corruptionAdvice is what an operator can do.
const corruptionAdvice = "restore the directory from a copy, or begin with an empty one as a replica of a server that has the data"

func (e *CorruptionError) Unwrap() error { return e.Err }

func chunkKey(dst []byte, start Offset) []byte {
	return binary.BigEndian.AppendUint64(append(dst, tagChunk), uint64(start))
}

func parseChunkKey(key []byte) (Offset, bool) {
	if len(key) != 9 || key[0] != tagChunk {
		return 0, false
	}
	return Offset(binary.BigEndian.Uint64(key[1:])), true
}

// putChunkHeader fills dst[:chunkHeaderLen] for a chunk whose bytes stand behind it. settled: what precedes it is durable.
func putChunkHeader(dst []byte, start Offset, unixMs int64, db int, settled bool) {
	h := dst[:chunkHeaderLen]
	h[0], h[1], h[18] = chunkVersion, 0, 0
	if settled {
		h[1] = flagSettled
	}
	binary.BigEndian.PutUint64(h[2:], uint64(unixMs))
	binary.BigEndian.PutUint32(h[10:], uint32(db))
	binary.BigEndian.PutUint32(h[14:], chunkCRC(dst, start))
}

func chunkCRC(chunk []byte, start Offset) uint32 {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(start))
	c := crc32.Update(0, castagnoli, chunk[:14])
	c = crc32.Update(c, castagnoli, at[:])
	return crc32.Update(c, castagnoli, chunk[chunkHeaderLen:])
}

// chunkInfo is a decoded header.
type chunkInfo struct {
	unixMs  int64
	db      int
	settled bool   // what precedes it was durable when it was written
	data    []byte // points into the value
}

func parseChunk(start Offset, value []byte) (chunkInfo, error) {
	if len(value) <= chunkHeaderLen {
		return chunkInfo{}, fmt.Errorf("%w: %d bytes", ErrChunk, len(value))
	}
	if value[0] != chunkVersion || value[1]&^flagSettled != 0 || value[18] != 0 {
		return chunkInfo{}, fmt.Errorf("%w: version %d, flags %d", ErrChunk, value[0], value[1])
	}
	if got, want := chunkCRC(value, start), binary.BigEndian.Uint32(value[14:]); got != want {
		return chunkInfo{}, fmt.Errorf("%w: checksum %08x where %08x is recorded", ErrChunk, got, want)
	}
	return chunkInfo{
		unixMs:  int64(binary.BigEndian.Uint64(value[2:])),
		db:      int(int32(binary.BigEndian.Uint32(value[10:]))),
		settled: value[1]&flagSettled != 0,
		data:    value[chunkHeaderLen:],
	}, nil
}
