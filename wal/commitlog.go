package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes the newest file of its commit log to end where it is damaged: that is how a crash leaves it. But a file may be
// damaged in its midst, by a disk, and then what was durable would go without a word. Pebble's own proof against that, the
// offset that was synced, in the header of each piece, counts too little for large batches. So a chunk says itself that what
// precedes it was durable when it was written (flagSettled). A chunk that says so behind the damage proves that there is some.
// It proves it after any crash: what is durable is there, whatever else is missing.
//
// The commit log's format is that of Pebble's package record: blocks of 32 KiB, in them pieces of batches, each with a header:
//
//	0   4  CRC-32C, masked, of all that follows
//	4   2  length, little endian
//	6   1  kind: 1–4 full, first, middle, last piece of a batch; 5–8 the same with bytes 7–10; 9–12 with bytes 7–18
//	7   4  number of the file, little endian: files are used again
//	11  8  the offset that was synced
const (
	commitBlock      = 32 << 10
	commitHeaderLen  = 7
	commitCRCMask    = 0xa282ead8
	commitSyncHeader = 19
)

// commitScan is what the file of a commit log shows by itself.
type commitScan struct {
	name    string
	damaged int64  // offset in the file from which on Pebble reads nothing; -1: all of it can be read
	end     Offset // of the last chunk before the damage; -1: there is none
	settled Offset // up to which the log was durable, as chunks behind the damage say; -1: none says so
}

// scanCommitLog reads files of the commit log, oldest first; only the newest one if newest is set.
func scanCommitLog(fs vfs.FS, dir string, newest bool) ([]commitScan, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	type file struct {
		name string
		num  uint64
	}
	var files []file
	for _, n := range names {
		if s, ok := strings.CutSuffix(n, ".log"); ok {
			if num, err := strconv.ParseUint(s, 10, 64); err == nil {
				files = append(files, file{n, num})
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return int(int64(a.num) - int64(b.num)) })
	if newest && len(files) > 1 {
		files = files[len(files)-1:]
	}
	var out []commitScan
	for _, f := range files {
		s, err := scanCommitFile(fs, fs.PathJoin(dir, f.name), uint32(f.num))
		if err != nil {
			return nil, err
		}
		s.name = f.name
		out = append(out, s)
	}
	return out, nil
}

func scanCommitFile(fs vfs.FS, path string, num uint32) (s commitScan, err error) {
	s.damaged, s.end, s.settled = -1, -1, -1
	f, err := fs.Open(path)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var block [commitBlock]byte
	var batch []byte
	within := false // batch is the beginning of one
	for at := int64(0); ; at += commitBlock {
		n, err := io.ReadFull(f, block[:])
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return s, err
		}
		for pos := 0; pos < n; {
			data, kind, size, state := commitPiece(block[pos:n], commitBlock-pos, num)
			if state == pieceEnd {
				return s, nil
			}
			if state == pieceNone {
				break // to the next block
			}
			if state == pieceBad {
				if s.damaged < 0 {
					s.damaged = at + int64(pos)
				}
				within = false
				pos += nextPiece(block[pos:n], commitBlock-pos, num)
				continue
			}
			pos += size
			switch kind {
			case 0: // full
				s.batch(data)
				within = false
			case 1: // first
				batch, within = append(batch[:0], data...), true
			default:
				if batch = append(batch, data...); kind == 3 && within {
					s.batch(batch)
					within = false
				}
			}
		}
	}
}

// states of what stands at a place of a block
const (
	pieceGood = iota
	pieceNone // the rest of the block is too short for a piece, and empty
	pieceEnd  // the end of the file, as its writer marked it
	pieceBad
)

// commitPiece decodes the piece at the start of b; room is how far the block reaches from there.
func commitPiece(b []byte, room int, num uint32) (data []byte, kind, size, state int) {
	if len(b) < commitHeaderLen || b[6] == 0 {
		for _, c := range b {
			if c != 0 {
				return nil, 0, 0, pieceBad
			}
		}
		if room < commitSyncHeader {
			return nil, 0, 0, pieceNone
		}
		return nil, 0, 0, pieceBad
	}
	form, kind := int(b[6]-1)/4, int(b[6]-1)%4
	if form > 2 {
		return nil, 0, 0, pieceBad
	}
	header := [...]int{commitHeaderLen, commitHeaderLen + 4, commitSyncHeader}[form]
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if form > 0 && len(b) >= header {
		switch of := binary.LittleEndian.Uint32(b[commitHeaderLen:]); of {
		case num:
		case num + 1:
			return nil, 0, 0, pieceEnd
		default:
			return nil, 0, 0, pieceBad
		}
	}
	if size > len(b) {
		return nil, 0, 0, pieceBad
	}
	c := crc32.Checksum(b[6:size], castagnoli)
	if (c>>15|c<<17)+commitCRCMask != binary.LittleEndian.Uint32(b) {
		return nil, 0, 0, pieceBad
	}
	return b[header:size], kind, size, pieceGood
}

// nextPiece returns how far behind the damage at the start of b the next piece stands; behind b if there is none.
func nextPiece(b []byte, room int, num uint32) int {
	for i := 1; i+commitSyncHeader <= len(b); i++ {
		if k := b[i+commitHeaderLen-1]; k <= 4 || k > 12 || binary.LittleEndian.Uint32(b[i+commitHeaderLen:]) != num {
			continue // no piece, at little cost
		}
		if _, _, _, state := commitPiece(b[i:], room-i, num); state == pieceGood {
			return i
		}
	}
	return len(b)
}

// batch looks at the chunks in a batch.
func (s *commitScan) batch(repr []byte) {
	if len(repr) < batchrepr.HeaderLen {
		return
	}
	for r := batchrepr.Read(repr); ; {
		kind, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return
		}
		start, isChunk := parseChunkKey(key)
		if !isChunk || kind != pebble.InternalKeyKindSet {
			continue
		}
		if s.damaged < 0 {
			s.end = start + Offset(max(len(value)-chunkHeaderLen, 0))
		} else if c, err := parseChunk(start, value); err == nil && c.settled {
			s.settled = max(s.settled, start)
		}
	}
}

// refuseDamage returns a CorruptionError if the newest file of the commit log is damaged and has lost what was durable. It
// changes nothing: Pebble, which must not open the log before, would take what it can read and delete the file.
func refuseDamage(o Options) error {
	files, err := scanCommitLog(o.FS, o.FS.PathJoin(o.Dir, commitLogDir), true)
	if err != nil || len(files) == 0 || files[0].settled < 0 {
		if errors.Is(err, os.ErrNotExist) {
			return nil // a new log
		}
		return err
	}
	s := files[0]
	o.ReadOnly = true
	l, err := openUnproved(o)
	if err != nil {
		return err
	}
	end := l.End()
	if err := l.Close(); err != nil || end >= s.settled {
		return err
	}
	return &CorruptionError{end, fmt.Errorf("W4: %s is damaged at its byte %d, and the log was on disk up to offset %d at least",
		o.FS.PathJoin(commitLogDir, s.name), s.damaged, s.settled)}
}

// openError says what is damaged when Pebble could not open the log, and from which offset on, as far as that can be told.
func (l *Log) openError(err error) error {
	if errors.As(err, new(*CorruptionError)) {
		return err // what the log has failed by is that, too
	}
	o := &l.opts
	if !damaged(err) {
		return errors.Join(err, l.Err())
	}
	files, scanErr := scanCommitLog(o.FS, o.FS.PathJoin(o.Dir, commitLogDir), false)
	if scanErr != nil {
		return &CorruptionError{-1, err}
	}
	end := Offset(-1)
	for i, f := range files {
		end = max(end, f.end)
		if f.damaged >= 0 && (i < len(files)-1 || f.settled >= 0) {
			return &CorruptionError{end, fmt.Errorf("%s at its byte %d: %w", o.FS.PathJoin(commitLogDir, f.name), f.damaged, err)}
		}
	}
	return &CorruptionError{-1, err}
}

// damaged tells whether an error of opening comes from damage to files. Pebble does not mark a file that is missing, or of
// another length than it should be, as corrupt.
func damaged(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch")
}
