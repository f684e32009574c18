package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// errDamaged says that bytes did not come as they were sent.
var errDamaged = errors.New("a table was damaged on its way")

// tables takes over the tables that the primary offers; head is what follows tablesHead.
func (u *upstream) tables(ld Loader, v verdict, head string) error {
	tl, ok := ld.(TableLoader)
	if !ok || !u.r.o.Tables || v.old {
		return fmt.Errorf("%w: tables were not asked for", errProtocol)
	}
	var n int64
	var crc uint32
	if _, err := fmt.Sscanf(head, "%d %x", &n, &crc); err != nil || n < 0 || n > maxManifest {
		return fmt.Errorf("%w: a list of tables announced as %q", errProtocol, printable(head))
	}
	text, err := io.ReadAll(io.LimitReader(u.in, n))
	if err != nil {
		return err
	}
	if int64(len(text)) < n {
		return io.ErrUnexpectedEOF
	}
	if crc32.Checksum(text, castagnoli) != crc {
		return fmt.Errorf("%w: their list", errDamaged)
	}
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return fmt.Errorf("%w: list of tables: %w", errProtocol, err)
	}
	if err := m.check(v.id, v.off); err != nil {
		return err
	}
	total := m.Size()
	u.syncTotal.Store(total)
	u.speak(newlines) // what is there may take long to read
	sink, err := tl.BeginTables(u.ctx, m)
	if err != nil {
		return err
	}
	t := &tableReceiver{u: u, m: m, sink: sink, have: make([]int64, len(m.Files)), buf: make([]byte, tableBuf)}
	err = sink.Have(u.ctx, func(i int, size int64, crc uint32) error {
		t.have[i] = size
		u.syncRead.Add(size)
		return u.send("REPLCONF", "holdfast-have", strconv.Itoa(i), strconv.FormatInt(size, 10), strconv.FormatUint(uint64(crc), 16))
	})
	if err != nil {
		return err
	}
	had := u.syncRead.Load()
	u.r.log.Info(fmt.Sprintf("MASTER <-> REPLICA sync: receiving %d bytes in %d tables from master, %d are here", total, len(m.Files), had))
	if err := u.send("REPLCONF", "holdfast-get"); err != nil {
		return err
	}
	t.teller = newTeller(u.r.o.Clock, func(s string) { u.r.log.Info(s) }, "MASTER <-> REPLICA sync", had)
	if err := t.run(); err != nil {
		return err
	}
	return sink.Finish(u.ctx)
}

// tableReceiver reads the frames of a full sync by tables.
type tableReceiver struct {
	u      *upstream
	m      *Manifest
	sink   TableSink
	have   []int64 // bytes there, by file
	buf    []byte
	teller *teller
}

func (t *tableReceiver) run() error {
	for {
		line, err := t.u.answer()
		if err != nil {
			return err
		}
		if line == "+END" {
			for i, f := range t.m.Files {
				if t.have[i] != f.Size {
					return fmt.Errorf("%w: table %s has %d bytes of %d at the end", errProtocol, f.Name, t.have[i], f.Size)
				}
			}
			return nil
		}
		var i int
		var off, n int64
		if _, err := fmt.Sscanf(line, "+FILE %d %d %d", &i, &off, &n); err != nil || i < 0 || i >= len(t.m.Files) ||
			n < 0 || off != 0 && off != t.have[i] || n != t.m.Files[i].Size-off {
			return fmt.Errorf("%w: %q among the tables", errProtocol, printable(line))
		}
		if err := t.file(i, off, n); err != nil {
			return err
		}
	}
}

// file reads n bytes of a file, which begin at off.
func (t *tableReceiver) file(i int, off, n int64) (err error) {
	u := t.u
	w, err := t.sink.Create(i, off)
	if err != nil {
		return err
	}
	open := true
	defer func() {
		if open {
			err = errors.Join(err, w.Close())
		}
	}()
	u.syncRead.Add(off - t.have[i])
	t.have[i] = off
	crc := uint32(0)
	for n > 0 {
		k, err := u.in.Read(t.buf[:min(int64(len(t.buf)), n)])
		if k > 0 { // also before an error: less to send next time
			crc = crc32.Update(crc, castagnoli, t.buf[:k])
			if _, err := w.Write(t.buf[:k]); err != nil {
				return fmt.Errorf("table %s: %w", t.m.Files[i].Name, err)
			}
			n -= int64(k)
			t.have[i] += int64(k)
			u.syncRead.Add(int64(k))
			t.teller.tell(u.syncRead.Load(), u.syncTotal.Load())
		}
		if err != nil {
			return unexpected(err)
		}
	}
	open = false
	if err := w.Close(); err != nil {
		return fmt.Errorf("table %s: %w", t.m.Files[i].Name, err)
	}
	sum, err := u.line()
	if err != nil {
		return err
	}
	if want, err := strconv.ParseUint(strings.TrimSpace(sum), 16, 32); err != nil || len(sum) != 8 || uint32(want) != crc {
		return fmt.Errorf("%w: %s", errDamaged, t.m.Files[i].Name)
	}
	return nil
}
