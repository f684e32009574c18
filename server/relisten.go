package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
)

// Listening elsewhere while the server runs: CONFIG SET of bind, port and tls-port.
//
// What is new is bound first, then what is no longer wanted goes: if it cannot be bound nothing has changed, and a client that
// comes meanwhile finds one or the other. Connections stay, whichever listener they came by. Only where the old listener is itself in
// the way (an address instead of all, at the same port) it goes first, and comes back if the new one fails.

// listenKey is a TCP listener as it is configured.
type listenKey struct {
	addr string // as in bind
	port int    // as bound
	tls  bool
}

// keys returns the listeners that the addresses and ports stand for.
func (cfg *ListenConfig) keys() (keys []listenKey) {
	for _, p := range []listenKey{{port: cfg.Port}, {port: cfg.TLSPort, tls: true}} {
		if p.port == 0 {
			continue
		}
		for _, addr := range cfg.Bind {
			if p.addr = addr; !slices.Contains(keys, p) {
				keys = append(keys, p)
			}
		}
	}
	return keys
}

// Relisten makes the network listen on the addresses and ports of cfg; an empty list of addresses means none. The unix socket and
// the backlog do not change. On an error it listens where it did before.
func (n *Network) Relisten(ctx context.Context, cfg ListenConfig) error {
	n.open.Lock()
	defer n.open.Unlock()
	if n.closing.Load() {
		return net.ErrClosed
	}
	cfg.Backlog = n.cfg.Listen.Backlog
	if cfg.Port < 0 { // the one that the kernel chose stays
		for _, ln := range n.open.lns {
			if ln.key.addr != "" && !ln.key.tls {
				cfg.Port = ln.key.port
			}
		}
	}
	if cfg.TLS != nil {
		n.tls.Store(cfg.TLS)
	}
	wanted := cfg.keys()
	var kept, gone []boundListener
	for _, ln := range n.open.lns {
		i := slices.Index(wanted, ln.key)
		switch {
		case ln.info.unix:
			kept = append(kept, ln)
		case i < 0:
			gone = append(gone, ln)
		default:
			kept = append(kept, ln)
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	fresh, err := cfg.openKeys(ctx, wanted)
	if errors.Is(err, syscall.EADDRINUSE) && slices.ContainsFunc(gone, func(ln boundListener) bool {
		return slices.ContainsFunc(wanted, func(k listenKey) bool { return k.port == ln.key.port })
	}) {
		var before []listenKey
		for _, ln := range gone {
			before = append(before, ln.key)
			n.detach(ln, true)
		}
		gone = nil
		if fresh, err = cfg.openKeys(ctx, wanted); err != nil {
			old, back := cfg.openKeys(ctx, before)
			fresh, err = old, errors.Join(err, back)
			n.setListeners(kept, fresh)
			return err
		}
	}
	if err != nil {
		return err
	}
	n.setListeners(kept, fresh)
	for _, ln := range gone {
		n.detach(ln, false)
	}
	return nil
}

// setListeners serves fresh listeners beside those that are served already, plain TCP before TLS before the unix socket.
// REQUIRES: the lock of open.
func (n *Network) setListeners(kept, fresh []boundListener) {
	for _, ln := range fresh {
		n.attach(ln)
	}
	n.open.lns = append(fresh, kept...)
	rank := func(ln boundListener) int {
		switch {
		case ln.info.unix:
			return 2
		case ln.info.tls:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(n.open.lns, func(a, b boundListener) int { return rank(a) - rank(b) })
}

// attach begins to serve a listener while the network runs.
func (n *Network) attach(ln boundListener) {
	if !haveLoop || ln.info.tls {
		n.connWG.Go(func() { n.acceptGo(ln) })
		return
	}
	l := n.loops[0]
	l.post(func() {
		if err := l.listen(ln.Listener, ln.info); err != nil {
			n.log.Error("listener is not served", "listener", ln.info.addr, "error", err)
			return
		}
		l.setAccepting(!n.paused.Load())
	})
}

// detach ends a listener. What has connected to it and is not yet accepted is accepted first, unless it must be out of the way at
// once.
func (n *Network) detach(ln boundListener, now bool) {
	if !haveLoop || ln.info.tls {
		n.closeListener(ln)
		return
	}
	if now {
		if err := stopListening(ln.Listener); err != nil {
			n.log.Warn("listener not closed", "listener", ln.info.addr, "error", err)
		}
	}
	l := n.loops[0]
	l.post(func() {
		l.unlisten(ln.Listener)
		n.closeListener(ln)
	})
}

func (n *Network) closeListener(ln boundListener) {
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		n.log.Warn("listener not closed", "listener", ln.info.addr, "error", err)
	}
}

var (
	errCannotListen = errors.New("Unable to listen on this port. Check server logs.")
	errCannotBind   = errors.New("Failed to bind to specified addresses.")
	errCannotTLS    = errors.New("Unable to update TLS configuration. Check server logs.")
)

// relisten makes the network listen where the configuration says; refusal is what the client is told if it cannot.
func (s *Server) relisten(refusal error) error {
	if err := s.network.Relisten(s.ctx, s.listenConfig()); err != nil {
		s.log.Warn("not listening on other addresses", "bind", s.cfg.Text("bind"), "port", s.cfg.Int("port"),
			"tls-port", s.cfg.Int("tls-port"), "error", err)
		return refusal
	}
	for _, a := range s.network.Addrs() {
		s.log.Info("ready to accept connections", "network", a.Network(), "addr", a.String())
	}
	s.repl.replica.SetConfig(s.replicaConfig()) // it names the port to its primary
	return nil
}

func (s *Server) applyBind() error { return s.relisten(errCannotBind) }

// applyPort listens on another port. REQUIRES: configSet.
func (s *Server) applyPort() error {
	s.anyPort = false
	return s.relisten(errCannotListen)
}

func (s *Server) applyTLSPort() error {
	if err := s.applyTLS(); err != nil {
		s.log.Warn("TLS not configured", "error", err)
		return errCannotTLS
	}
	return s.relisten(errCannotListen)
}
