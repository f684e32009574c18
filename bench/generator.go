package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-db/holdfast/bench/result"
)

// Generator is a load that costs little itself: one thread drives all connections by epoll, so that on a machine with few cores
// most is left to the server. Load and Paced, with a goroutine or two for each connection, check every reply's content; this one looks at
// what a reply begins with.
//
// With Rate 0 it is a closed loop: each connection writes Pipeline requests and awaits their replies. Else requests are due at fixed times,
// spread over the connections in turn, and latencies count from then, whether or not what was sent before has been answered.
type Generator struct {
	Addr     string
	Conns    int
	Pipeline int           // of the closed loop
	Rate     float64       // requests per second of the open loop
	Warm     time.Duration // not measured
	Duration time.Duration // measured
	Most     int64         // requests at most, those of Warm included: with them the load ends; 0 = no limit
	// Request appends a request of one or more commands, and to want what each reply begins with.
	Request func(dst, want []byte) ([]byte, []byte)
	// Mark, if set, is called when measuring begins and when it ends.
	Mark func(end bool) error
}

// GeneratorResult is what was measured, in one and in pieces.
type GeneratorResult struct {
	Result
	Nulls int64     // of Ops, those that were answered with null: what was asked for was not there
	Parts []*Result // of partOf(Duration) each
}

// cut drops the pieces behind the end of what was measured.
func (r *GeneratorResult) cut() {
	left := r.Elapsed
	for i, p := range r.Parts {
		if left <= 0 {
			r.Parts = r.Parts[:i]
			return
		}
		p.Elapsed = min(p.Elapsed, left)
		left -= p.Elapsed
	}
}

// Series are the pieces over time.
func (r *GeneratorResult) Series() map[string][]result.Sample {
	at, t := make([]float64, len(r.Parts)), 0.0
	for i, p := range r.Parts {
		t += p.Elapsed.Seconds()
		at[i] = t
	}
	return series(r.Parts, at)
}

// partOf is how long a piece of a measurement is: a second, or less where there would be few.
func partOf(d time.Duration) time.Duration { return min(time.Second, max(d/5, 50*time.Millisecond)) }

// answerLimit is how long the last answers of an open loop may take after the load's end, and any answer of a closed one.
const answerLimit = 30 * time.Second

// wanted is a command that was sent and not answered.
type wanted struct {
	due  time.Duration // since the generator began
	kind byte
}

// genConn is a connection of a generator.
type genConn struct {
	fd      int
	number  int32  // by which epoll knows it
	out     []byte // not written yet: out[sent:]
	sent    int
	in      []byte // read and not understood yet
	queue   []wanted
	head    int  // of queue
	waiting bool // for room to write
	touched bool
}

func (c *genConn) outstanding() int { return len(c.queue) - c.head }

// generating is a Generator that runs. It belongs to one thread.
type generating struct {
	*Generator
	began   time.Time
	ep, tfd int
	conns   []genConn
	want    []byte
	touched []*genConn
	issued  int64 // requests
	res     GeneratorResult
	last    time.Duration // when the last measured reply came
	marks   int
	open    int // commands outstanding
}

// Run runs the load until its end. A reply of the wrong kind ends it with an error.
func (g *Generator) Run(ctx context.Context) (_ *GeneratorResult, err error) {
	if g.Conns < 1 || g.Duration <= 0 || g.Rate == 0 && g.Pipeline < 1 {
		return nil, errors.New("a generator needs connections, a time, and a pipeline or a rate")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	x := &generating{Generator: g, conns: make([]genConn, g.Conns), ep: -1, tfd: -1}
	defer func() { err = errors.Join(err, x.close()) }()
	if err := x.connect(); err != nil {
		return nil, err
	}
	x.res.Parts = make([]*Result, 0, g.Duration/partOf(g.Duration)+1)
	for left := g.Duration; left > 0; left -= partOf(g.Duration) {
		x.res.Parts = append(x.res.Parts, &Result{Elapsed: min(left, partOf(g.Duration))})
	}
	x.began = time.Now()
	if err := x.loop(ctx); err != nil {
		return nil, err
	}
	x.res.Elapsed = max(x.last-g.Warm, g.Duration)
	if x.spent() {
		x.res.Elapsed = max(x.last-g.Warm, 0)
		x.res.cut()
	}
	return &x.res, nil
}

func (x *generating) connect() error {
	for i := range x.conns {
		x.conns[i].fd, x.conns[i].number = -1, int32(i)
	}
	a, err := net.ResolveTCPAddr("tcp4", x.Addr)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: a.Port}
	copy(to.Addr[:], a.IP.To4())
	if x.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	if x.tfd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	if err := unix.EpollCtl(x.ep, unix.EPOLL_CTL_ADD, x.tfd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: timerEvent}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	for i := range x.conns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		x.conns[i].fd = fd
		if err := unix.Connect(fd, to); err != nil {
			return fmt.Errorf("connect to %s: %w", x.Addr, err)
		}
		if err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.EpollCtl(x.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: x.conns[i].number})); err != nil {
			return fmt.Errorf("a connection to %s: %w", x.Addr, err)
		}
		x.conns[i].in = make([]byte, 0, 64<<10)
	}
	return nil
}

// timerEvent stands for the timer among the numbers of connections.
const timerEvent = -1

func (x *generating) close() error {
	var err error
	for i := range x.conns {
		if fd := x.conns[i].fd; fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	for _, fd := range []int{x.ep, x.tfd} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

func (x *generating) loop(ctx context.Context) error {
	end := x.Warm + x.Duration
	events := make([]unix.EpollEvent, 256)
	if x.Rate == 0 {
		for i := range x.conns {
			if err := x.batch(&x.conns[i], 0); err != nil {
				return err
			}
		}
	}
	for {
		now := time.Since(x.began)
		if x.spent() && x.open == 0 {
			return x.mark(end) // there is no more to measure
		}
		if err := x.mark(now); err != nil {
			return err
		}
		switch {
		case now >= end && x.open == 0:
			return nil
		case now >= end+answerLimit:
			return fmt.Errorf("%d requests were not answered within %v", x.open, answerLimit)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if x.Rate > 0 && now < end {
			if err := x.issue(now, end); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(x.ep, events, 100)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if e.Fd == timerEvent {
				var b [8]byte
				if _, err := unix.Read(x.tfd, b[:]); err != nil && err != unix.EAGAIN {
					return fmt.Errorf("timer: %w", err)
				}
				continue
			}
			c := &x.conns[e.Fd]
			if e.Events&unix.EPOLLOUT != 0 {
				if err := x.flush(c); err != nil {
					return err
				}
			}
			if e.Events&^uint32(unix.EPOLLOUT) != 0 {
				if err := x.receive(c, end); err != nil {
					return fmt.Errorf("connection %d of the load: %w", e.Fd, err)
				}
			}
		}
	}
}

// spent tells whether all requests have been sent that may be.
func (x *generating) spent() bool { return x.Most > 0 && x.issued >= x.Most }

// mark tells the caller of the begin and the end of measuring.
func (x *generating) mark(now time.Duration) error {
	for x.marks < 2 && now >= x.Warm+time.Duration(x.marks)*x.Duration {
		x.marks++
		if x.Mark != nil {
			if err := x.Mark(x.marks == 2); err != nil {
				return err
			}
		}
	}
	return nil
}

// add appends a request to what a connection is to send.
func (x *generating) add(c *genConn, due time.Duration) {
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
	c.out, x.want = x.Request(c.out, x.want[:0])
	for _, kind := range x.want {
		c.queue = append(c.queue, wanted{due, kind})
	}
	x.open += len(x.want)
	x.issued++
}

// batch sends the next pipeline of a closed loop.
func (x *generating) batch(c *genConn, now time.Duration) error {
	for i := 0; i < x.Pipeline && !x.spent(); i++ {
		x.add(c, now)
	}
	return x.flush(c)
}

// issue sends what is due, and sets the timer for what is due next.
func (x *generating) issue(now, end time.Duration) error {
	dueAt := func(n int64) time.Duration { return time.Duration(float64(n) / x.Rate * float64(time.Second)) }
	due := dueAt(x.issued)
	for ; due <= now && due < end && !x.spent(); due = dueAt(x.issued) {
		c := &x.conns[x.issued%int64(len(x.conns))]
		if x.add(c, due); !c.touched {
			c.touched = true
			x.touched = append(x.touched, c)
		}
	}
	for _, c := range x.touched {
		c.touched = false
		if err := x.flush(c); err != nil {
			return err
		}
	}
	x.touched = x.touched[:0]
	wait := max(due-time.Since(x.began), 1)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	if err := unix.TimerfdSettime(x.tfd, 0, &spec, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	return nil
}

// flush writes what the socket takes.
func (x *generating) flush(c *genConn) error {
	for c.sent < len(c.out) {
		n, err := unix.Write(c.fd, c.out[c.sent:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return x.watch(c, true)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		c.sent += n
	}
	c.out, c.sent = c.out[:0], 0
	if c.waiting {
		return x.watch(c, false)
	}
	return nil
}

// watch has epoll tell, or not tell, when there is room to write.
func (x *generating) watch(c *genConn, room bool) error {
	if c.waiting == room {
		return nil
	}
	events := uint32(unix.EPOLLIN)
	if room {
		events |= unix.EPOLLOUT
	}
	c.waiting = room
	return unix.EpollCtl(x.ep, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: c.number})
}

// receive reads replies and counts them.
func (x *generating) receive(c *genConn, end time.Duration) error {
	if len(c.in) == cap(c.in) {
		c.in = append(c.in, make([]byte, cap(c.in))...)[:len(c.in)]
	}
	n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n == 0:
		return errors.New("the server closed the connection")
	}
	c.in = c.in[:len(c.in)+n]
	now := time.Since(x.began)
	at := 0
	for at < len(c.in) {
		k, err := replyEnd(c.in[at:])
		if err != nil {
			return err
		}
		if k == 0 {
			break
		}
		if c.head == len(c.queue) {
			return fmt.Errorf("a reply that nothing was asked for: %.80q", c.in[at:at+k])
		}
		w := c.queue[c.head]
		if c.in[at] != w.kind {
			return fmt.Errorf("wanted a reply that begins with %q, got %.200q", w.kind, c.in[at:at+k])
		}
		c.head++
		x.open--
		x.count(w, now, end, c.in[at+1] == '-' && (w.kind == '$' || w.kind == '*'))
		at += k
	}
	c.in = c.in[:copy(c.in, c.in[at:])]
	if c.head > 4096 && c.head*2 > len(c.queue) {
		// The queue of an open loop may never be empty.
		c.queue, c.head = c.queue[:copy(c.queue, c.queue[c.head:])], 0
	}
	if x.Rate == 0 && c.outstanding() == 0 && now < end {
		return x.batch(c, now)
	}
	return nil
}

// count measures a reply. A closed loop's belongs to the time at which it came, an open one's to when it was due.
func (x *generating) count(w wanted, now, end time.Duration, null bool) {
	at := now
	if x.Rate > 0 {
		at = w.due
	}
	if at < x.Warm || at >= end {
		return
	}
	x.last = max(x.last, now)
	x.res.Ops++
	if null {
		x.res.Nulls++
	}
	x.res.Latency.Record(now - w.due)
	p := x.res.Parts[min(int((at-x.Warm)/partOf(x.Duration)), len(x.res.Parts)-1)]
	p.Ops++
	p.Latency.Record(now - w.due)
}
