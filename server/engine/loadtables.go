package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfast-db/holdfast/replication"
	"github.com/holdfast-db/holdfast/wal"
)

// Taking over tables as they are. They come into snapshot.partial, which outlives links, loads and restarts: what is there is
// offered to the primary again, which compares. When all is there, checked and on disk, the directory becomes snapshot.new, and
// goes the way of every load (switch.go). Nothing of it is trusted before: a file's sum is checked as it comes, or against the
// primary's by who has it already.

const (
	partialName = "snapshot.partial"
	// historyName is a file in it that tells of which history the tables are.
	historyName = "HISTORY"
	// syncQueue bounds the files that wait for the disk while others come.
	syncQueue = 16
)

// tableSink implements replication.TableSink.
type tableSink struct {
	l   *Loader
	m   *replication.Manifest
	dir string
	buf []byte

	synced map[int]bool
	queue  chan vfs.File // written; closed behind the last one
	worker sync.WaitGroup
	mu     struct {
		sync.Mutex
		err error // of the first file that could not be synced
	}
}

const tableReadBuf = 256 << 10

// BeginTables implements replication.TableLoader.
func (l *Loader) BeginTables(ctx context.Context, m *replication.Manifest) (replication.TableSink, error) {
	if l.ended || l.store != nil || l.tables != nil {
		return nil, ErrLoaded
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &tableSink{l: l, m: m, dir: l.e.path(partialName), buf: make([]byte, tableReadBuf), synced: map[int]bool{}, queue: make(chan vfs.File, syncQueue)}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	l.tables = s
	l.aux.lineage = m.Lineage
	s.worker.Go(func() {
		for f := range s.queue {
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				s.mu.Lock()
				s.mu.err = errors.Join(s.mu.err, err)
				s.mu.Unlock()
			}
		}
	})
	return s, nil
}

func (s *tableSink) path(name string) string { return s.l.e.disk.fs.PathJoin(s.dir, name) }

// prepare leaves in the directory what may be of use: files of the same history that the manifest names.
func (s *tableSink) prepare() error {
	fs := s.l.e.disk.fs
	if !s.sameHistory() {
		if err := fs.RemoveAll(s.dir); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	sizes := make(map[string]int64, len(s.m.Files))
	for _, f := range s.m.Files {
		if f.Name == historyName || f.Name == lockName {
			return fmt.Errorf("a table cannot be called %s", f.Name)
		}
		sizes[f.Name] = f.Size
	}
	names, err := fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		st, err := fs.Stat(s.path(n))
		if err != nil {
			return err
		}
		if size, ok := sizes[n]; n != historyName && (!ok || st.Size() > size) {
			if err := fs.RemoveAll(s.path(n)); err != nil {
				return err
			}
		}
	}
	return s.writeHistory()
}

func (s *tableSink) sameHistory() bool {
	id, err := readFile(s.l.e.disk.fs, s.path(historyName))
	if err != nil {
		return false // none, or none that can be used: it begins anew
	}
	return id == s.m.ID || slices.ContainsFunc(s.m.Lineage, func(e wal.LineageEntry) bool { return e.ID == id })
}

func (s *tableSink) writeHistory() error {
	fs := s.l.e.disk.fs
	f, err := fs.Create(s.path(historyName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, s.m.ID)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(syncDir(fs, s.dir), syncDir(fs, s.l.e.opts.Dir))
}

// Have implements replication.TableSink.
func (s *tableSink) Have(ctx context.Context, tell func(file int, size int64, crc uint32) error) error {
	for i, f := range s.m.Files {
		size, crc, err := s.sum(ctx, s.path(f.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", f.Name, err)
		}
		s.l.bytes.Add(size)
		if err := tell(i, size, crc); err != nil {
			return err
		}
	}
	return nil
}

func (s *tableSink) sum(ctx context.Context, path string) (size int64, crc uint32, err error) {
	f, err := s.l.e.disk.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		n, err := f.Read(s.buf)
		crc = crc32.Update(crc, tableSums, s.buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return size, crc, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}

var tableSums = crc32.MakeTable(crc32.Castagnoli)

// Create implements replication.TableSink.
func (s *tableSink) Create(i int, off int64) (io.WriteCloser, error) {
	if i < 0 || i >= len(s.m.Files) {
		return nil, fmt.Errorf("table %d of %d", i, len(s.m.Files))
	}
	var f vfs.File
	var err error
	if fs, path := s.l.e.disk.fs, s.path(s.m.Files[i].Name); off == 0 {
		// Not over what is there: its bytes may be of another file.
		if err = fs.RemoveAll(path); err == nil {
			f, err = fs.Create(path, vfs.WriteCategoryUnspecified)
		}
	} else {
		f, err = fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	}
	if err != nil {
		return nil, err
	}
	if off > 0 {
		return &tableFile{s: s, f: f, file: i, at: off}, nil
	}
	return &tableFile{s: s, f: f, file: i, at: -1}, nil
}

// tableFile is a table that comes. Its Close has the disk work on it while the next ones come.
type tableFile struct {
	s    *tableSink
	f    vfs.File
	file int
	at   int64 // where the next byte goes, of a file that is written on; -1: begun anew
}

func (t *tableFile) Write(b []byte) (n int, err error) {
	if t.at < 0 {
		n, err = t.f.Write(b)
	} else {
		n, err = t.f.WriteAt(b, t.at)
		t.at += int64(n)
	}
	t.s.l.bytes.Add(int64(n))
	return n, err
}

func (t *tableFile) Close() error {
	t.s.mu.Lock()
	err := t.s.mu.err
	t.s.mu.Unlock()
	if err != nil {
		return errors.Join(err, t.f.Close())
	}
	t.s.synced[t.file] = true
	t.s.queue <- t.f
	return nil
}

// stop waits until no file is open any more. It is called once.
func (s *tableSink) stop() error {
	close(s.queue)
	s.worker.Wait()
	s.queue = nil
	return s.mu.err
}

// Finish implements replication.TableSink.
func (s *tableSink) Finish(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	fs := s.l.e.disk.fs
	for i, f := range s.m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		st, err := fs.Stat(s.path(f.Name))
		if err != nil {
			return err
		}
		if st.Size() != f.Size {
			return fmt.Errorf("table %s has %d bytes, not %d", f.Name, st.Size(), f.Size)
		}
		if !s.synced[i] { // it was there: whether it is on disk nobody knows
			if err := syncFile(fs, s.path(f.Name)); err != nil {
				return err
			}
		}
	}
	if err := fs.Remove(s.path(historyName)); err != nil {
		return err
	}
	if err := syncDir(fs, s.dir); err != nil {
		return err
	}
	if err := fs.Rename(s.dir, s.l.dir); err != nil {
		return err
	}
	if err := syncDir(fs, s.l.e.opts.Dir); err != nil {
		return err
	}
	m, err := s.l.e.metaOf(s.l.dir)
	if err != nil {
		return err
	}
	for _, d := range m.DBs {
		s.l.keys.Add(d.Keys)
	}
	s.l.aux.id, s.l.aux.offset, s.l.aux.db = m.ReplID, int64(m.C), m.SelectedDB
	s.l.whole = true
	return nil
}

func syncFile(fs vfs.FS, path string) error {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
