package bench

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a network between a replica and its primary: it counts bytes, slows down, and breaks links when told.
// "Down" is from the target to who connected.
type Proxy struct {
	target string
	ln     net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	down atomic.Int64
	rate atomic.Int64 // bytes per second down; 0 = as fast as it goes
	cuts atomic.Int64 // links broken by us

	mu struct {
		sync.Mutex
		blocked bool
		links   map[*link]struct{}
		cutAt   int64 // links break when so many bytes have gone down; 0 = never
	}
}

type link struct{ near, far net.Conn }

func (l *link) close() error { return errors.Join(l.near.Close(), l.far.Close()) }

// NewProxy listens on a free loopback port and connects each who calls there to target.
func NewProxy(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, ln: ln}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.mu.links = map[*link]struct{}{}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Down is how many bytes have gone from the target to those who connected.
func (p *Proxy) Down() int64 { return p.down.Load() }

// Cuts is how many links were broken by us.
func (p *Proxy) Cuts() int64 { return p.cuts.Load() }

// Throttle lets only so many bytes per second go down; 0 = any number.
func (p *Proxy) Throttle(bytesPerSecond int64) { p.rate.Store(bytesPerSecond) }

// Cut breaks all links; new ones are made as before.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutLocked()
}

func (p *Proxy) cutLocked() {
	for l := range p.mu.links {
		l.close() // what the other end thinks of it is the point
		delete(p.mu.links, l)
		p.cuts.Add(1)
	}
}

// CutAt breaks all links at the moment when so many bytes, counted from the proxy's beginning, have gone down.
func (p *Proxy) CutAt(down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.cutAt = down
}

// Block breaks all links and lets nobody connect until Open.
func (p *Proxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.blocked = true
	p.cutLocked()
}

// Open ends Block.
func (p *Proxy) Open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.blocked = false
}

// Close ends the proxy and its links.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.Block()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		near, err := p.ln.Accept()
		if err != nil {
			if p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.wg.Go(func() { p.serve(near) })
	}
}

func (p *Proxy) serve(near net.Conn) {
	far, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(p.ctx, "tcp", p.target)
	if err != nil {
		near.Close() // as a refused connection
		return
	}
	l := &link{near: near, far: far}
	p.mu.Lock()
	if p.mu.blocked {
		p.mu.Unlock()
		l.close()
		return
	}
	p.mu.links[l] = struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copyDown(l) })
	wg.Go(func() { p.copyUp(l) })
	wg.Wait()
	p.mu.Lock()
	delete(p.mu.links, l)
	p.mu.Unlock()
}

// copyUp carries what the replica says. When it ends, so does the link.
func (p *Proxy) copyUp(l *link) {
	defer l.close()
	buf := make([]byte, 32<<10)
	for {
		n, err := l.near.Read(buf)
		if n > 0 {
			if _, err := l.far.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) copyDown(l *link) {
	defer l.close()
	buf := make([]byte, 256<<10)
	for {
		part := buf
		rate := p.rate.Load()
		if rate > 0 {
			part = buf[:min(int64(len(buf)), max(rate/20, 1))] // 20 portions a second
		}
		n, err := l.far.Read(part)
		if n > 0 {
			cut := false
			if p.mu.Lock(); p.mu.cutAt > 0 && p.down.Load()+int64(n) >= p.mu.cutAt {
				n = int(max(p.mu.cutAt-p.down.Load(), 0))
				p.mu.cutAt, cut = 0, true
			}
			p.down.Add(int64(n))
			p.mu.Unlock()
			if _, err := l.near.Write(part[:n]); err != nil {
				return
			}
			if cut {
				p.Cut()
				return
			}
		}
		if err != nil {
			return
		}
		if rate > 0 && wait(p.ctx, time.Duration(float64(n)/float64(rate)*float64(time.Second))) != nil {
			return
		}
	}
}
