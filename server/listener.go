package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ListenConfig says where the network layer listens. Network.Relisten takes another one.
type ListenConfig struct {
	// Bind are addresses; one with a '-' in front may be missing on this machine. "*" means all of IPv4, "::*" or "::" all
	// of IPv6. Empty: the same as "*", "-::*".
	Bind []string
	// Port is the plain TCP port, 0 for none, -1 for one that the kernel chooses.
	Port int
	// TLSPort is the TLS port, with the same meaning. It needs TLS.
	TLSPort int
	TLS     *tls.Config
	// UnixSocket is a path, empty for none. UnixPerm is its mode, 0 to leave it to the umask.
	UnixSocket string
	UnixPerm   os.FileMode

	Backlog int // of listen(2); 511 if 0. The kernel caps it at somaxconn.
}

// listenerInfo is what a connection inherits from its listener.
type listenerInfo struct {
	addr string // as bound; the path of a unix socket
	unix bool
	tls  bool
}

type boundListener struct {
	net.Listener
	info listenerInfo
	key  listenKey // of TCP
}

// listenError says what could not be listened on.
type listenError struct {
	what string // "port 6379", "unix socket /run/a.sock"
	addr string // of a port
	err  error
}

func (e *listenError) Error() string {
	return "listen on " + strings.TrimPrefix(e.addr+" "+e.what, " ") + ": " + e.err.Error()
}

func (e *listenError) Unwrap() error { return e.err }

// open binds all listeners, or none: on an error those already bound are closed.
func (cfg *ListenConfig) open(ctx context.Context) (lns []boundListener, err error) {
	at := *cfg
	if len(at.Bind) == 0 {
		at.Bind = []string{"*", "-::*"}
	}
	if lns, err = at.openKeys(ctx, at.keys()); err != nil {
		return nil, err
	}
	for _, p := range []listenKey{{port: cfg.Port}, {port: cfg.TLSPort, tls: true}} {
		if p.port != 0 && !slices.ContainsFunc(lns, func(ln boundListener) bool { return ln.key.tls == p.tls }) {
			closeAll(lns)
			return nil, fmt.Errorf("listen on port %d: none of the addresses is available", max(p.port, 0))
		}
	}
	if cfg.UnixSocket != "" {
		ln, err := cfg.listenUnix(ctx)
		if err != nil {
			closeAll(lns)
			return nil, &listenError{"unix socket " + cfg.UnixSocket, "", rootError(err)}
		}
		lns = append(lns, boundListener{Listener: ln, info: listenerInfo{addr: cfg.UnixSocket, unix: true}})
	}
	return lns, nil
}

// openKeys binds TCP listeners, all or none. An address that may be missing is left out where it is.
func (cfg *ListenConfig) openKeys(ctx context.Context, keys []listenKey) (lns []boundListener, err error) {
	chosen := map[bool]int{} // the kernel's choice serves all addresses; by whether it is for TLS
	for _, k := range keys {
		if k.tls && cfg.TLS == nil {
			closeAll(lns)
			return nil, errors.New("tls-port needs a certificate and a key")
		}
		if k.port < 0 {
			k.port = chosen[k.tls]
		}
		ln, err := cfg.listenTCP(ctx, k.addr, k.port)
		if err != nil {
			if optional := strings.HasPrefix(k.addr, "-"); optional && isMissingAddress(err) {
				continue
			}
			closeAll(lns)
			return nil, &listenError{fmt.Sprint("port ", k.port), strings.TrimPrefix(k.addr, "-"), rootError(err)}
		}
		k.port = ln.Addr().(*net.TCPAddr).Port
		chosen[k.tls] = k.port
		lns = append(lns, boundListener{Listener: ln, info: listenerInfo{addr: ln.Addr().String(), tls: k.tls}, key: k})
	}
	return lns, nil
}

func closeAll(lns []boundListener) {
	for _, ln := range lns {
		ln.Close()
	}
}

func (cfg *ListenConfig) backlog() int {
	if cfg.Backlog > 0 {
		return cfg.Backlog
	}
	return 511
}

func (cfg *ListenConfig) listenTCP(ctx context.Context, addr string, port int) (net.Listener, error) {
	network, host := "tcp4", strings.TrimPrefix(addr, "-")
	switch {
	case host == "*":
		host = "0.0.0.0"
	case host == "::*" || host == "::":
		network, host = "tcp6", "::"
	case strings.Contains(host, ":"):
		network = "tcp6"
	case net.ParseIP(host) == nil:
		network = "tcp" // a host name
	}
	var lc net.ListenConfig
	lc.KeepAlive = -1 // set for each connection
	ln, err := lc.Listen(ctx, network, net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	if err := cfg.applyBacklog(ln); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func (cfg *ListenConfig) listenUnix(ctx context.Context) (net.Listener, error) {
	// A socket left by a crash is in the way; whether somebody still serves it is found out by asking.
	if fi, err := os.Lstat(cfg.UnixSocket); err == nil && fi.Mode()&os.ModeSocket != 0 {
		if c, err := net.DialTimeout("unix", cfg.UnixSocket, time.Second); err == nil {
			c.Close()
			return nil, syscall.EADDRINUSE
		}
		if err := os.Remove(cfg.UnixSocket); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", cfg.UnixSocket)
	if err != nil {
		return nil, err
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // Network.Close removes it
	if cfg.UnixPerm != 0 {
		if err := os.Chmod(cfg.UnixSocket, cfg.UnixPerm); err != nil {
			ln.Close()
			os.Remove(cfg.UnixSocket)
			return nil, err
		}
	}
	if err := cfg.applyBacklog(ln); err != nil {
		ln.Close()
		os.Remove(cfg.UnixSocket)
		return nil, err
	}
	return ln, nil
}

func (cfg *ListenConfig) applyBacklog(ln net.Listener) error {
	rc, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = setBacklog(fd, cfg.backlog()) }); err != nil {
		return err
	}
	return inner
}

// isMissingAddress tells whether err says that this machine has no such address or protocol.
func isMissingAddress(err error) bool {
	for _, e := range []error{syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.ENOPROTOOPT,
		syscall.EPFNOSUPPORT, syscall.ESOCKTNOSUPPORT} {
		if errors.Is(err, e) {
			return true
		}
	}
	var ae *net.AddrError
	return errors.As(err, &ae)
}

// rootError drops the layers of the net package that repeat the address.
func rootError(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err
}
