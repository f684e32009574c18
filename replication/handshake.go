package replication

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-db/holdfast/wal"
)

// maxLine bounds a line of the handshake; Redis's are at most 256 bytes.
const maxLine = 1024

// verdict is the primary's answer to PSYNC or SYNC.
type verdict struct {
	full bool
	old  bool       // answers SYNC: nothing is known but the snapshot
	id   string     // under which the history goes on
	off  wal.Offset // of the snapshot
}

// line reads a line without its end.
func (u *upstream) line() (string, error) {
	b, err := u.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(b) > maxLine {
		return "", fmt.Errorf("%w: line is too long", errProtocol)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return string(bytes.TrimRight(b, "\r\n")), err
}

func (u *upstream) send(args ...string) error {
	list := make([][]byte, len(args))
	for i, a := range args {
		list[i] = []byte(a)
	}
	_, err := u.conn.Write(wal.AppendCommand(nil, list...))
	return err
}

// handshake introduces us and asks for what follows our end. All replies but PSYNC's are awaited in the order of their requests;
// the requests between PING and PSYNC go out together.
func (u *upstream) handshake(t Target) (verdict, error) {
	log, c := u.r.log, u.r.conf.Load()
	if err := u.send("PING"); err != nil {
		return verdict{}, err
	}
	reply, err := u.line()
	switch {
	case err != nil:
		return verdict{}, err
	case strings.HasPrefix(reply, "+"):
		log.Info("Master replied to PING, replication can continue...")
	case strings.HasPrefix(reply, "-NOAUTH"), strings.HasPrefix(reply, "-NOPERM"), strings.HasPrefix(reply, "-ERR operation not permitted"):
		// AUTH comes next
	default:
		return verdict{}, fmt.Errorf("error reply to PING from master: %q", printable(reply))
	}

	var requests [][]string
	if c.Password != "" {
		auth := []string{"AUTH", c.Password}
		if c.User != "" {
			auth = []string{"AUTH", c.User, c.Password}
		}
		requests = append(requests, auth)
	}
	requests = append(requests, []string{"REPLCONF", "listening-port", strconv.Itoa(c.Port)})
	if c.IP != "" {
		requests = append(requests, []string{"REPLCONF", "ip-address", c.IP})
	}
	if c.Name != "" {
		requests = append(requests, []string{"REPLCONF", "replica-name", c.Name})
	}
	capa := []string{"REPLCONF", "capa", "eof", "capa", "psync2"}
	if u.r.o.Tables {
		capa = append(capa, "capa", capaTables) // Redis passes over what it does not know
	}
	requests = append(requests, capa)
	// A primary whose buffers are full must not be waited for without reading: over a pipe, neither end would go on.
	sent := make(chan error, 1)
	go func() {
		for _, q := range requests {
			if err := u.send(q...); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	err = u.replies(requests)
	if err != nil {
		u.cancel(err) // ends the sender, too
	}
	if err := errors.Join(err, <-sent); err != nil {
		return verdict{}, err
	}
	return u.psync(t)
}

func (u *upstream) replies(requests [][]string) error {
	for _, q := range requests {
		reply, err := u.line()
		switch {
		case err != nil:
			return err
		case !strings.HasPrefix(reply, "-"):
		case q[0] == "AUTH":
			return fmt.Errorf("unable to AUTH to MASTER: %s", printable(reply))
		default:
			u.r.log.Info(fmt.Sprintf("(Non critical) Master does not understand REPLCONF %s: %s", q[1], printable(reply)))
		}
	}
	return nil
}

// psync asks for a partial resync, or for a full one if there is nothing to go on from.
func (u *upstream) psync(t Target) (verdict, error) {
	log := u.r.log
	current, end := u.r.o.Sink.Position()
	id, ok := askWith(u.r.o.Sink.Log().Lineage(), end)
	if t.Failover {
		id, ok = current, true // the id that our replicas have, whatever was written under it
	}
	if !ok && u.r.syncedAs(current) {
		id, ok = current, true
	}
	args := []string{"PSYNC", "?", "-1"}
	if ok && !t.Failover && u.r.foreignAt(end) {
		// It would come again and again. A snapshot has what became of it, which may be something that we know.
		ok = false
		log.Info(fmt.Sprintf("The record at offset %d cannot be applied: asking for a full resynchronization.", int64(end)))
	} else if ok {
		args[1], args[2] = id, strconv.FormatInt(int64(end)+1, 10)
		log.Info(fmt.Sprintf("Trying a partial resynchronization (request %s:%s).", args[1], args[2]))
	} else {
		log.Info("Partial resynchronization not possible (no cached master)")
	}
	if t.Failover {
		args = append(args, "FAILOVER")
	}
	if err := u.send(args...); err != nil {
		return verdict{}, err
	}
	reply, err := u.answer()
	if err != nil {
		return verdict{}, err
	}
	word, rest, _ := strings.Cut(reply, " ")
	switch {
	case word == "+FULLRESYNC":
		newID, off, _ := strings.Cut(rest, " ")
		n, err := strconv.ParseInt(off, 10, 64)
		if err != nil || n < 0 || !isID(newID) {
			return verdict{}, fmt.Errorf("%w: master replied with wrong +FULLRESYNC syntax: %q", errProtocol, printable(reply))
		}
		log.Info(fmt.Sprintf("Full resync from master: %s:%d", newID, n))
		return verdict{full: true, id: newID, off: wal.Offset(n)}, nil
	case word == "+CONTINUE" && ok:
		if rest == "" {
			rest = id // a primary before PSYNC2: under the id that was asked for
		}
		if !isID(rest) {
			return verdict{}, fmt.Errorf("%w: master replied with wrong +CONTINUE syntax: %q", errProtocol, printable(reply))
		}
		log.Info("Successful partial resynchronization with master.")
		return verdict{id: rest}, nil
	case word == "-NOMASTERLINK", word == "-LOADING":
		return verdict{}, fmt.Errorf("%w: master is currently unable to PSYNC but should be in the future: %s", errLater, printable(reply))
	case strings.HasPrefix(reply, "-") && !t.Failover:
		log.Info(fmt.Sprintf("Master does not support PSYNC or is in error state (reply: %s)", printable(reply)))
		log.Info("Retrying with SYNC...")
		if _, err := io.WriteString(u.conn, "SYNC\r\n"); err != nil {
			return verdict{}, err
		}
		return verdict{full: true, old: true}, nil
	default:
		return verdict{}, fmt.Errorf("%w: unexpected reply to PSYNC from master: %q", errProtocol, printable(reply))
	}
}

// answer reads a line; empty ones say that the primary lives and is busy.
func (u *upstream) answer() (string, error) {
	for {
		if s, err := u.line(); s != "" || err != nil {
			return s, err
		}
	}
}

// resume goes on from our end under the id that the primary named.
func (u *upstream) resume(v verdict) error {
	r := u.r
	if current, _ := r.o.Sink.Position(); v.id != current {
		if err := r.o.Sink.AdoptID(u.ctx, v.id); err != nil {
			return fmt.Errorf("replication id %s: %w", v.id, err)
		}
		r.log.Info("Master replication ID changed to " + v.id)
		if d := r.o.Downstream; d != nil {
			d.Disconnect() // our replicas must learn it, too
		}
	}
	r.mu.Lock()
	r.mu.st.Resumes++
	r.mu.Unlock()
	r.log.Info("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.")
	u.speak(acks)
	return nil
}

// syncedAs says whether id came by a full sync, or is one we went on under, since the start. A position at offset 0 needs it: there
// no byte tells an id of another's from one of our own.
func (r *Replica) syncedAs(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return id != "" && r.mu.synced == id
}

func isID(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 40
}
