package server

import (
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const haveLoop = true

// setBacklog repeats listen(2) on a listening socket, which changes its backlog: the net package always takes
// somaxconn.
func setBacklog(fd uintptr, backlog int) error {
	return os.NewSyscallError("listen", unix.Listen(int(fd), backlog))
}

// sockaddrString returns "ip:port", or "path:0" for a unix socket, and whether the address is of this machine.
func sockaddrString(sa unix.Sockaddr, info listenerInfo) (s string, loopback bool) {
	var ip netip.Addr
	var port int
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		ip, port = netip.AddrFrom4(sa.Addr), sa.Port
	case *unix.SockaddrInet6:
		ip, port = netip.AddrFrom16(sa.Addr).Unmap(), sa.Port
	default:
		return info.addr + ":0", true
	}
	return joinHostPort(ip.String(), port), ip.IsLoopback()
}

// joinHostPort brackets IPv6 addresses as Redis does.
func joinHostPort(ip string, port int) string {
	for i := range len(ip) {
		if ip[i] == ':' {
			return "[" + ip + "]:" + strconv.Itoa(port)
		}
	}
	return ip + ":" + strconv.Itoa(port)
}

// tuneTCP sets what every TCP connection gets. Errors mean that the peer has gone already; the next read tells.
func (n *Network) tuneTCP(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	secs := int(time.Duration(n.keepAlive.Load()).Seconds())
	if secs <= 0 {
		return
	}
	// As Redis: the first probe after the interval, then every third of it, three of them.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, secs)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, max(1, secs/3))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
}
