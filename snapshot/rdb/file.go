package rdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
)

// The opcodes of a file (RDB_OPCODE_*).
const (
	opSlotInfo     = 244
	opFunction2    = 245
	opModuleAux    = 247
	opIdle         = 248
	opFreq         = 249
	opAux          = 250
	opResizeDB     = 251
	opExpireTimeMs = 252
	opExpireTime   = 253
	opSelectDB     = 254
	opEOF          = 255
)

// FileWriter writes an RDB file. It gathers what it writes: an error of w may show some calls later, at Close at the latest. The
// first error sticks and is returned by every later call.
type FileWriter struct {
	w   io.Writer
	crc CRC64
	buf []byte // not yet written
	err error
}

// writeChunk is the size in bytes from which on gathered output is written: large enough that a write to a socket costs little beside
// what it carries, and that a bufio.Writer of as many bytes passes it on without a copy; small enough that it is still in the
// processor's cache when it is written.
const writeChunk = 256 << 10

// NewFileWriter writes the header of a file of version Version.
func NewFileWriter(w io.Writer) *FileWriter { return NewFileWriterOf(w, Version) }

// NewFileWriterOf writes the header of a file of another version: FieldTTLVersion where a HASH_METADATA value is among the keys.
func NewFileWriterOf(w io.Writer, version int) *FileWriter {
	f := &FileWriter{w: w, buf: make([]byte, 0, writeChunk+writeChunk/8)}
	f.buf = fmt.Appendf(f.buf, "REDIS%04d", version)
	return f
}

// gathered writes if enough has gathered.
func (f *FileWriter) gathered() error {
	if len(f.buf) >= writeChunk {
		f.flush()
	}
	return f.err
}

func (f *FileWriter) flush() {
	if f.err == nil {
		f.crc = f.crc.Update(f.buf)
		_, f.err = f.w.Write(f.buf)
	}
	f.buf = f.buf[:0]
}

// Aux writes an auxiliary field.
func (f *FileWriter) Aux(name, value string) error {
	f.buf = AppendString(AppendString(append(f.buf, opAux), []byte(name)), []byte(value))
	return f.gathered()
}

// SelectDB says which database the following keys are of.
func (f *FileWriter) SelectDB(db int) error {
	f.buf = AppendLen(append(f.buf, opSelectDB), uint64(db))
	return f.gathered()
}

// ResizeDB announces how many keys, and keys with an expiry, the selected database has.
func (f *FileWriter) ResizeDB(keys, expires uint64) error {
	f.buf = AppendLen(AppendLen(append(f.buf, opResizeDB), keys), expires)
	return f.gathered()
}

// Key writes a key. expireMs is unix time in ms, negative = none. value is type byte and payload, copied as it is.
// REQUIRES: no key twice in a database: redis-server panics on it while loading.
func (f *FileWriter) Key(key []byte, expireMs int64, value []byte) error {
	if f.err == nil && len(value) == 0 {
		f.err = corrupt("value without a type byte")
	}
	if f.err != nil {
		return f.err
	}
	f.head(key, expireMs, Type(value[0]))
	return f.Elements(value[1:])
}

// BeginKey writes a key without its elements: t is one of the types of AppendHeader, n > 0 the number of elements. What follows are
// calls of Elements that bring all of them.
func (f *FileWriter) BeginKey(key []byte, expireMs int64, t Type, n uint64) error {
	if f.err == nil && n == 0 {
		f.err = corrupt("collection without elements")
	}
	if f.err != nil {
		return f.err
	}
	f.head(key, expireMs, t)
	f.buf = AppendLen(f.buf, n)
	return f.gathered()
}

// BeginFieldTTLs writes a key with a HASH_METADATA value without its n > 0 fields, which calls of Elements bring in the form of
// AppendFieldTTL. earliestMs is unix time in ms.
func (f *FileWriter) BeginFieldTTLs(key []byte, expireMs, earliestMs int64, n uint64) error {
	if f.err == nil && n == 0 {
		f.err = corrupt("collection without elements")
	}
	if f.err != nil {
		return f.err
	}
	f.head(key, expireMs, TypeHashMetadata)
	f.buf = AppendLen(binary.LittleEndian.AppendUint64(f.buf, uint64(earliestMs)), n)
	return f.gathered()
}

func (f *FileWriter) head(key []byte, expireMs int64, t Type) {
	if expireMs >= 0 {
		f.buf = binary.LittleEndian.AppendUint64(append(f.buf, opExpireTimeMs), uint64(expireMs))
	}
	f.buf = AppendString(append(f.buf, byte(t)), key)
}

// Elements writes part of a value, copied as it is.
func (f *FileWriter) Elements(p []byte) error {
	if len(p) >= writeChunk { // not copied
		f.flush()
		if f.err == nil {
			f.crc = f.crc.Update(p)
			_, f.err = f.w.Write(p)
		}
		return f.err
	}
	f.buf = append(f.buf, p...)
	return f.gathered()
}

// Close ends the file with opcode and checksum. It does not close the underlying writer.
func (f *FileWriter) Close() error {
	f.buf = append(f.buf, opEOF)
	f.flush()
	if f.err == nil {
		_, f.err = f.w.Write(binary.LittleEndian.AppendUint64(f.buf, uint64(f.crc)))
	}
	return f.err
}

// Entry is one key of a file, or one auxiliary field or function library. Slices are valid until the next call of Next.
type Entry struct {
	DB       int
	Key      []byte
	ExpireMs int64 // unix time, -1 = none
	Type     Type
	Value    []byte // payload without the type byte, for DecodeValue
	Freq     int    // LFU counter, -1 = not given
	IdleSec  int64  // LRU idle time in seconds, -1 = not given

	Aux      []byte // name of an auxiliary field whose text is Value; nil for a key
	Function []byte // code of a function library; nil for a key
}

// FileReader reads an RDB file. Its memory is bounded by the largest value and a read-ahead of 64 KiB or as much again.
type FileReader struct {
	s       source
	crc     CRC64
	version int
	db      int
	done    bool
}

// NewFileReader reads the header. Errors: ErrVersion when r holds no RDB or one newer than MaxVersion.
func NewFileReader(r io.Reader) (*FileReader, error) {
	f := &FileReader{s: source{r: r}}
	h, err := f.s.take(9)
	if err != nil {
		return nil, err
	}
	v, nerr := strconv.ParseUint(string(h[5:]), 10, 16)
	if !bytes.HasPrefix(h, []byte("REDIS")) || nerr != nil || v < 1 || v > MaxVersion {
		return nil, fmt.Errorf("%w: header %q", ErrVersion, h)
	}
	f.version = int(v)
	return f, nil
}

// Version returns the RDB version of the file.
func (f *FileReader) Version() int { return f.version }

// Buffered returns what was read ahead behind the end of the file; call it after Next has returned io.EOF.
func (f *FileReader) Buffered() []byte { return f.s.b[f.s.pos:] }

// discard takes what was consumed into the checksum and frees its room.
func (f *FileReader) discard() {
	f.crc = f.crc.Update(f.s.b[:f.s.pos])
	n := copy(f.s.b, f.s.b[f.s.pos:])
	f.s.b, f.s.pos = f.s.b[:n], 0
}

// Next returns the next entry, or io.EOF after the end and its checksum have been seen. Other errors: ErrCorrupt,
// *ErrUnsupportedType (pre-release module values and unknown types), or the reader's.
func (f *FileReader) Next() (Entry, error) {
	if f.done {
		return Entry{}, io.EOF
	}
	s := &f.s
	e := Entry{ExpireMs: -1, Freq: -1, IdleSec: -1}
	for {
		if s.pos >= readChunk && s.pos >= s.left() { // moving less than was consumed keeps the cost linear
			f.discard()
		}
		op, err := s.byte()
		if err != nil {
			return Entry{}, err
		}
		switch op {
		case opEOF:
			return Entry{}, f.end()
		case opSelectDB:
			n, lerr := s.len()
			if lerr == nil && n > 1<<31-1 {
				lerr = corrupt("database number")
			}
			f.db, err = int(n), lerr
		case opExpireTimeMs:
			v, verr := s.u64()
			e.ExpireMs, err = int64(v), verr
		case opExpireTime:
			p, perr := s.take(4)
			if err = perr; err == nil {
				e.ExpireMs = littleInt(p) * 1000
			}
		case opFreq:
			c, cerr := s.byte()
			e.Freq, err = int(c), cerr
		case opIdle:
			n, lerr := s.len()
			if lerr == nil && n > 1<<62 {
				lerr = corrupt("idle time")
			}
			e.IdleSec, err = int64(n), lerr
		case opResizeDB:
			err = s.skipLens(2)
		case opSlotInfo:
			err = s.skipLens(3)
		case opModuleAux:
			err = first(func() error { return s.skipLens(3) }, s.skipModule)
		case opAux:
			a := Entry{DB: f.db, ExpireMs: -1, Freq: -1, IdleSec: -1}
			if a.Aux, err = s.str(); err == nil {
				if a.Value, err = s.str(); err == nil {
					return a, nil
				}
			}
		case opFunction2:
			a := Entry{DB: f.db, ExpireMs: -1, Freq: -1, IdleSec: -1}
			if a.Function, err = s.str(); err == nil {
				return a, nil
			}
		default:
			return f.key(e, Type(op))
		}
		if err != nil {
			return Entry{}, err
		}
	}
}

func (f *FileReader) key(e Entry, t Type) (Entry, error) {
	s := &f.s
	if _, ok := t.Kind(); !ok {
		return Entry{}, unsupported(t)
	}
	var err error
	if e.Key, err = s.str(); err != nil {
		return Entry{}, err
	}
	start := s.pos
	if err := s.skip(t); err != nil {
		return Entry{}, err
	}
	e.DB, e.Type, e.Value = f.db, t, s.b[start:s.pos:s.pos]
	return e, nil
}

func (f *FileReader) end() error {
	f.discard()
	f.done = true
	if f.version < 5 {
		return io.EOF
	}
	want, err := f.s.u64()
	if err != nil {
		return err
	}
	if want != 0 && want != uint64(f.crc) {
		return ErrChecksum
	}
	return io.EOF
}
