package replication

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/holdfast-db/holdfast/wal"
)

// upstream is one connection to a primary. The Replica's goroutine reads it; once the handshake is done a second goroutine writes,
// so that a primary which does not read cannot keep us from applying, and a third waits for the disk on behalf of WAITAOF.
type upstream struct {
	r      *Replica
	ctx    context.Context
	cancel context.CancelCauseFunc
	conn   net.Conn
	in     *bufio.Reader
	stop   func() bool
	bg     sync.WaitGroup
	wake   chan struct{}
	disk   chan wal.Offset // asked to acknowledge again when this is on disk

	waiting, lastIO     atomic.Int64 // unix ns: since when a read waits, 0 if none does; when the last byte came
	got, applied        atomic.Int64 // offsets
	syncTotal, syncRead atomic.Int64
	bytes               atomic.Int64

	mu struct {
		sync.Mutex
		mode speech
		ack  wal.Offset // answers a GETACK; -1: none is open
	}
}

// speech is what the writer says each second.
type speech uint8

const (
	silent   speech = iota // the handshake speaks, or the primary is of the kind that knows no acknowledgements
	newlines               // a snapshot is being read and loaded
	acks
)

var errEnded = errors.New("link ended")

func (r *Replica) newUpstream(ctx context.Context) *upstream {
	u := &upstream{r: r, wake: make(chan struct{}, 1), disk: make(chan wal.Offset, 1)}
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	u.mu.ack = -1
	u.syncTotal.Store(-1)
	_, end := r.o.Sink.Position()
	u.got.Store(int64(end))
	u.applied.Store(int64(end))
	return u
}

func (u *upstream) dial(t Target) error {
	u.waiting.Store(u.r.o.Clock.Now().UnixNano())
	conn, err := u.r.o.Dial(u.ctx, t.Addr())
	u.waiting.Store(0)
	if err != nil {
		return fmt.Errorf("unable to connect to MASTER: %w", err)
	}
	u.conn = conn
	u.in = bufio.NewReaderSize(readerFunc(u.read), 64<<10)
	u.stop = context.AfterFunc(u.ctx, func() { _ = conn.Close() }) // unblocks whoever uses it
	return nil
}

// close ends the link and waits for its goroutines.
func (u *upstream) close() {
	u.cancel(errEnded)
	u.bg.Wait()
	if u.conn != nil && u.stop() {
		_ = u.conn.Close()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func (u *upstream) read(b []byte) (int, error) {
	u.waiting.Store(u.r.o.Clock.Now().UnixNano())
	n, err := u.conn.Read(b)
	u.waiting.Store(0)
	if n > 0 {
		u.lastIO.Store(u.r.o.Clock.Now().UnixNano())
		u.bytes.Add(int64(n))
	}
	return n, err
}

// speak starts the writer.
func (u *upstream) speak(s speech) {
	u.mu.Lock()
	started := u.mu.mode != silent
	u.mu.mode = s
	u.mu.Unlock()
	if started || s == silent {
		return
	}
	u.bg.Go(func() { u.cancel(u.write()) })
	u.bg.Go(u.watchDisk)
}

// signal has the writer say what its mode says; at >= 0 answers a GETACK that stands at this offset in the stream.
func (u *upstream) signal(at wal.Offset) {
	u.mu.Lock()
	mode := u.mu.mode
	if at >= 0 {
		u.mu.ack = max(u.mu.ack, at)
	}
	u.mu.Unlock()
	if mode == silent {
		return
	}
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// write writes acknowledgements and newlines. One write is under way at most: what comes meanwhile becomes one.
func (u *upstream) write() error {
	for {
		select {
		case <-u.ctx.Done():
			return errEnded
		case <-u.wake:
		}
		u.mu.Lock()
		mode, off := u.mu.mode, u.mu.ack
		u.mu.ack = -1
		u.mu.Unlock()
		var b []byte
		switch mode {
		case silent:
			continue
		case newlines:
			b = []byte{'\n'}
		case acks:
			asked := off >= 0
			if !asked {
				off = wal.Offset(u.applied.Load())
			}
			b = ackCommand(off, u.r.o.Sink.Log().Durable())
			if asked {
				u.askDisk(off)
			}
		}
		if _, err := u.conn.Write(b); err != nil {
			return err
		}
	}
}

func ackCommand(off, durable wal.Offset) []byte {
	return wal.AppendCommand(nil, []byte("REPLCONF"), []byte("ACK"), strconv.AppendInt(nil, int64(off), 10),
		[]byte("FACK"), strconv.AppendInt(nil, int64(durable), 10))
}

// askDisk has an acknowledgement sent when off is on disk, which a WAITAOF may be waiting for; the newest offset counts.
func (u *upstream) askDisk(off wal.Offset) {
	if u.r.o.Sink.Log().Durable() >= off {
		return
	}
	select {
	case <-u.disk:
	default:
	}
	u.disk <- off // the only sender, and it has just made room
}

func (u *upstream) watchDisk() {
	for {
		select {
		case <-u.ctx.Done():
			return
		case off := <-u.disk:
			if err := u.r.o.Sink.Log().WaitDurable(u.ctx, off); err != nil {
				if u.ctx.Err() == nil {
					u.cancel(fmt.Errorf("log: %w", err))
				}
				return
			}
			u.signal(-1)
		}
	}
}
