package replication

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

// tableRequest is what a replica says of the tables it has. Below: p.mu.
type tableRequest struct {
	have []tableHave // by file
	get  chan struct{}
	got  bool
}

type tableHave struct {
	size int64 // -1: nothing
	crc  uint32
}

// wantsTables tells whether the replica takes tables.
func (q *Request) wantsTables() bool { return q.Tables && !q.Old && !q.RDBOnly && !q.NoData }

// takeTables takes REPLCONF holdfast-have and holdfast-get. It takes only what names a file of the manifest that was sent, so
// that a replica cannot have memory grow (M1).
func (l *link) takeTables(args [][]byte) error {
	if len(args) < 2 || !equalFold(args[0], "replconf") {
		return nil
	}
	get := equalFold(args[1], "holdfast-get")
	if !get && !equalFold(args[1], "holdfast-have") {
		return nil
	}
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	t := l.tables
	if t == nil || t.got {
		return fmt.Errorf("%w: no tables were offered", errProtocol)
	}
	if get {
		t.got = true
		close(t.get)
		return nil
	}
	if len(args) != 5 {
		return fmt.Errorf("%w: holdfast-have", errProtocol)
	}
	i, err := strconv.Atoi(string(args[2]))
	size, serr := strconv.ParseInt(string(args[3]), 10, 64)
	crc, cerr := strconv.ParseUint(string(args[4]), 16, 32)
	if err := errors.Join(err, serr, cerr); err != nil || i < 0 || i >= len(t.have) || size < 0 {
		return fmt.Errorf("%w: holdfast-have: %w", errProtocol, errors.Join(err, errors.New("no such file")))
	}
	t.have[i] = tableHave{size, uint32(crc)}
	return nil
}

// sendTables sends the files that the replica does not have, and waits until it has taken them over.
func (l *link) sendTables(s *Snapshot) error {
	text, err := encodeManifest(s)
	if err != nil {
		return &snapshotError{err}
	}
	t := &tableRequest{have: make([]tableHave, len(s.Tables.Files)), get: make(chan struct{})}
	for i := range t.have {
		t.have[i].size = -1
	}
	m := Manifest{Files: s.Tables.Files}
	total := m.Size()
	l.p.mu.Lock()
	l.tables, l.tablesSent = t, true
	l.p.mu.Unlock()
	l.total.Store(total)
	l.setState(StateBulk)
	if _, err := l.write(append(fmt.Appendf(nil, tablesHead+"%d %08x\r\n", len(text), crc32.Checksum(text, castagnoli)), text...)); err != nil {
		return err
	}
	if err := l.await(t.get); err != nil {
		return err
	}
	buf := make([]byte, tableBuf)
	done := int64(0)
	tell := newTeller(l.p.o.Clock, func(s string) { l.p.log.Info(s) }, "Sending tables to replica "+l.addr, 0)
	for i, f := range s.Tables.Files {
		skipped, err := l.sendTable(s.Tables, i, t.have[i], buf, func(n int64) { tell.tell(done+n, total) })
		if err != nil {
			return err
		}
		tell.first += skipped
		l.had.Add(skipped)
		done += f.Size
	}
	if _, err := l.write([]byte("+END\r\n")); err != nil {
		return err
	}
	l.p.log.Info(fmt.Sprintf("Sent %d of %d bytes of tables to replica %s, it had the others", l.snapshot.Load(), total, l.addr))
	if err := l.await(l.first); err != nil {
		return err
	}
	s.Tables.Done()
	return nil
}

func (l *link) await(c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
}

// sendTable sends what a replica lacks of a file, and returns how much it had.
func (l *link) sendTable(t *Tables, i int, have tableHave, buf []byte, tell func(int64)) (off int64, err error) {
	size := t.Files[i].Size
	r, err := t.Open(t.Files[i].Name)
	if err != nil {
		return 0, &snapshotError{err}
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if have.size >= 0 && have.size <= size {
		var crc uint32
		err := l.keepalive(func() (err error) {
			if crc, err = sumOf(l.ctx, io.NewSectionReader(r, 0, have.size), have.size, buf); err != nil {
				err = &snapshotError{err}
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		if crc == have.crc {
			if off = have.size; off == size {
				return off, nil
			}
		}
	}
	if _, err := l.write(fmt.Appendf(nil, "+FILE %d %d %d\r\n", i, off, size-off)); err != nil {
		return off, err
	}
	w, crc := l.bulk(), uint32(0)
	for at := off; at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		if n, err := r.ReadAt(b, at); n < len(b) {
			return off, &snapshotError{fmt.Errorf("table %s: %w", t.Files[i].Name, unexpected(err))}
		}
		crc = crc32.Update(crc, castagnoli, b)
		if _, err := w.Write(b); err != nil {
			return off, err
		}
		at += int64(len(b))
		tell(at)
	}
	_, err = l.write(fmt.Appendf(nil, "%08x\r\n", crc))
	return off, err
}

// sumOf returns the crc32c of the next n bytes of r.
func sumOf(ctx context.Context, r io.Reader, n int64, buf []byte) (crc uint32, err error) {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b := buf[:min(int64(len(buf)), n)]
		if _, err := io.ReadFull(r, b); err != nil {
			return 0, unexpected(err)
		}
		crc = crc32.Update(crc, castagnoli, b)
		n -= int64(len(b))
	}
	return crc, nil
}
