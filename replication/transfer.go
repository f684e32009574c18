package replication

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-db/holdfast/wal"
)

// markLen is the length of the mark around a snapshot of unknown length.
const markLen = 40

// load takes over the primary's data. The old data stay what they are until Commit.
func (u *upstream) load(v verdict) (err error) {
	r := u.r
	if v.old {
		// Nothing says where this history stands: it gets an id that nobody else knows (W3), so that the next link is a full sync again.
		v.id = r.o.Rand()
	}
	if r.o.AcceptFull != nil {
		if err := r.o.AcceptFull(v.id, v.off); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
	}
	ld, err := r.o.Sink.BeginLoad(u.ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	committed := false
	defer func() {
		if !committed {
			err = errors.Join(err, ld.Abort())
		}
	}()
	marked, err := u.receive(ld, v)
	if err != nil {
		return err
	}
	r.log.Info("MASTER <-> REPLICA sync: Loading DB in memory")
	lineage := []wal.LineageEntry{{ID: v.id, Start: 0, End: -1}}
	if l := ld.Lineage(); fitsLineage(l, v.id, v.off) {
		lineage = slices.Clone(l)
	}
	if d := r.o.Downstream; d != nil {
		d.Pause()
		defer d.Resume()
	}
	committed = true // or not: the Loader has ended in any case
	if err := ld.Commit(u.ctx, v.off, lineage); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	u.got.Store(int64(v.off))
	u.applied.Store(int64(v.off))
	r.mu.Lock()
	r.mu.synced = v.id
	r.mu.st.FullSyncs++
	r.mu.Unlock()
	r.log.Info("MASTER <-> REPLICA sync: Finished with success")
	if v.old {
		u.speak(silent)
	} else {
		u.speak(acks)
	}
	if marked {
		// The primary holds the stream back until it hears this.
		_, err = u.conn.Write(ackCommand(v.off, r.o.Sink.Log().Durable()))
	}
	return err
}

// receive has the Loader read the snapshot. marked: the primary awaits an acknowledgement before the stream.
func (u *upstream) receive(ld Loader, v verdict) (marked bool, err error) {
	head, err := u.answer()
	if err != nil {
		return false, err
	}
	if text, ok := strings.CutPrefix(head, tablesHead); ok {
		if err := u.tables(ld, v, text); err != nil {
			return false, fmt.Errorf("snapshot: %w", err)
		}
		return true, nil
	}
	src, marked, err := u.snapshot(head)
	if err != nil {
		return false, err
	}
	u.speak(newlines)
	counted := &countingReader{src: src, u: u, teller: newTeller(u.r.o.Clock, func(s string) { u.r.log.Info(s) }, "MASTER <-> REPLICA sync", 0)}
	if err := ld.RDB(u.ctx, counted); err != nil {
		return false, fmt.Errorf("snapshot: %w", errors.Join(counted.err, err))
	}
	if n, err := io.Copy(io.Discard, counted); err != nil || n > 0 {
		return false, errors.Join(err, fmt.Errorf("%w: %d bytes behind the end of the snapshot", errProtocol, n))
	}
	return marked, nil
}

// fitsLineage says whether what a snapshot tells of its history can be the history of id up to off.
func fitsLineage(l []wal.LineageEntry, id string, off wal.Offset) bool {
	for i, e := range l {
		last := i == len(l)-1
		if !isID(e.ID) || e.Start < 0 || e.Start > off ||
			last && (e.ID != id || e.End != -1) ||
			!last && (e.End < e.Start || l[i+1].Start != e.End) {
			return false
		}
	}
	return len(l) > 0
}

// snapshot takes the line before the snapshot and returns a reader of it that ends with it.
func (u *upstream) snapshot(head string) (src io.Reader, marked bool, err error) {
	if strings.HasPrefix(head, "-") {
		return nil, false, fmt.Errorf("MASTER aborted replication with an error: %s", printable(head))
	}
	if mark, ok := strings.CutPrefix(head, "$EOF:"); ok && len(mark) == markLen {
		u.r.log.Info("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF")
		return &markReader{in: u.in, mark: []byte(mark)}, true, nil
	}
	size, ok := strings.CutPrefix(head, "$")
	n, err := strconv.ParseInt(size, 10, 64)
	if !ok || err != nil || n < 0 {
		return nil, false, fmt.Errorf("%w: the first line before the snapshot should begin with '$', but is %q; are you sure the host and port are right?",
			errProtocol, printable(head))
	}
	u.r.log.Info(fmt.Sprintf("MASTER <-> REPLICA sync: receiving %d bytes from master", n))
	u.syncTotal.Store(n)
	return &sizedReader{in: u.in, left: n}, false, nil
}

// countingReader counts what is read of a snapshot, logs how far it is, and keeps the error that ended it: to the file's reader it is a damaged
// file.
type countingReader struct {
	src    io.Reader
	u      *upstream
	teller *teller
	err    error
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.src.Read(b)
	c.teller.tell(c.u.syncRead.Add(int64(n)), c.u.syncTotal.Load())
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// sizedReader reads left bytes; a connection that ends before is an error.
type sizedReader struct {
	in   io.Reader
	left int64
}

func (s *sizedReader) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.in.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
		if s.left == 0 {
			err = nil
		}
	}
	return n, err
}

// markReader reads up to a mark, which it takes, and leaves what follows. It never keeps back more than what may be the
// mark's beginning, so that a snapshot's last bytes come as soon as the mark does.
type markReader struct {
	in   *bufio.Reader
	mark []byte
	end  bool
}

func (m *markReader) Read(b []byte) (int, error) {
	if m.end {
		return 0, io.EOF
	}
	if len(b) == 0 {
		return 0, nil
	}
	if _, err := m.in.Peek(1); err != nil {
		return 0, unexpected(err)
	}
	data, err := m.in.Peek(m.in.Buffered())
	if err != nil {
		return 0, err
	}
	n := m.free(data)
	for n == 0 && len(data) < len(m.mark) { // may be the mark: more of it must come
		if data, err = m.in.Peek(len(data) + 1); err != nil {
			return 0, unexpected(err)
		}
		if data, err = m.in.Peek(m.in.Buffered()); err != nil {
			return 0, err
		}
		n = m.free(data)
	}
	if n == 0 {
		m.end = true
		if _, err := m.in.Discard(len(m.mark)); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n = copy(b, data[:n])
	_, err = m.in.Discard(n)
	return n, err
}

// free returns how many bytes of data are surely before the mark.
func (m *markReader) free(data []byte) int {
	if i := bytes.Index(data, m.mark); i >= 0 {
		return i
	}
	for k := min(len(m.mark)-1, len(data)); k > 0; k-- {
		if bytes.Equal(data[len(data)-k:], m.mark[:k]) {
			return len(data) - k
		}
	}
	return len(data)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
