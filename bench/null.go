package bench

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"runtime"

	"github.com/tidwall/redcon"
	"golang.org/x/sys/unix"
)

// NullListener is a server that keeps nothing and looks at nothing but a command's name: it answers what a real one would, of the same size,
// at the least cost. What a Generator reaches against it is the generator's own limit.
type NullListener struct {
	ln      *net.TCPListener
	file    int // descriptor of the listener
	ep      int
	stop    int // eventfd
	replies map[string][]byte
	conns   map[int32]*nullConn
	in      []byte
	out     []byte
}

type nullConn struct{ rest []byte } // of a request that was not complete

// NewNullListener listens on a loopback address; values that it answers have so many bytes.
func NewNullListener(addr string, size int) (_ *NullListener, err error) {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, err
	}
	n := &NullListener{ln: ln.(*net.TCPListener), conns: map[int32]*nullConn{}, in: make([]byte, 64<<10), file: -1, ep: -1, stop: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	raw, err := n.ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	var derr error
	if err := raw.Control(func(fd uintptr) { n.file, derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || derr != nil {
		return nil, errors.Join(err, derr)
	}
	if n.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if n.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	for _, fd := range []int{n.file, n.stop} {
		if err := unix.EpollCtl(n.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, err
		}
	}
	n.replies = nullReplies(size)
	return n, nil
}

// nullReplies are the answers by name of command; "" is that of all others.
func nullReplies(size int) map[string][]byte {
	value := redcon.AppendBulk(nil, bytes.Repeat([]byte{'x'}, size))
	many := func(n int, each []byte) []byte { return append(redcon.AppendArray(nil, n), bytes.Repeat(each, n)...) }
	one, ok := []byte(":1\r\n"), []byte("+OK\r\n")
	return map[string][]byte{"": ok, "PING": []byte("+PONG\r\n"), "INFO": redcon.AppendBulkString(nil, "null_version:"+revision()+"\r\ntotal_error_replies:0\r\n"),
		"SET": ok, "MSET": ok, "GET": value, "HGET": value, "RPOP": value, "INCR": one, "LPUSH": one, "RPUSH": one, "SADD": one, "HSET": one, "ZADD": one,
		"LRANGE": many(listLength, value), "MGET": many(multiKeys, value), "ZRANGEBYLEX": many(scanMost/2, redcon.AppendBulk(nil, bytes.Repeat([]byte{'k'}, keyLen))), "DBSIZE": []byte(":0\r\n")}
}

// Addr is where it listens.
func (n *NullListener) Addr() string { return n.ln.Addr().String() }

// Serve answers until Stop.
func (n *NullListener) Serve() (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { err = errors.Join(err, n.close()) }()
	events := make([]unix.EpollEvent, 256)
	for {
		k, err := unix.EpollWait(n.ep, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:k] {
			switch int(e.Fd) {
			case n.stop:
				return nil
			case n.file:
				if err := n.accept(); err != nil {
					return err
				}
			default:
				if !n.serve(e.Fd) {
					delete(n.conns, e.Fd)
					if err := unix.Close(int(e.Fd)); err != nil {
						return err
					}
				}
			}
		}
	}
}

// Stop ends Serve.
func (n *NullListener) Stop() error {
	_, err := unix.Write(n.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

func (n *NullListener) close() error {
	err := n.ln.Close()
	for fd := range n.conns {
		err = errors.Join(err, unix.Close(int(fd)))
	}
	for _, fd := range []int{n.file, n.ep, n.stop} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

func (n *NullListener) accept() error {
	fd, _, err := unix.Accept4(n.file, unix.SOCK_CLOEXEC)
	if err == unix.EAGAIN || err == unix.EINTR || err == unix.ECONNABORTED {
		return nil
	}
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	n.conns[int32(fd)] = &nullConn{}
	// The sockets block where a client does not read: a generator always does.
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(n.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}))
}

// serve answers what has come from a client; false: the client is done for.
func (n *NullListener) serve(fd int32) bool {
	c := n.conns[fd]
	at := copy(n.in, c.rest)
	if len(n.in)-at < 16<<10 {
		n.in = append(n.in, make([]byte, len(n.in))...)
	}
	k, err := unix.Read(int(fd), n.in[at:])
	if err == unix.EINTR {
		return true
	}
	if err != nil || k == 0 {
		return false
	}
	b := n.in[:at+k]
	n.out = n.out[:0]
	for len(b) > 0 {
		end, err := replyEnd(b)
		if err != nil {
			return false
		}
		if end == 0 {
			break
		}
		n.out = append(n.out, n.reply(b[:end])...)
		b = b[end:]
	}
	c.rest = append(c.rest[:0], b...)
	for sent := 0; sent < len(n.out); {
		k, err := unix.Write(int(fd), n.out[sent:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		sent += k
	}
	return true
}

// reply finds the answer by the second line but one of *3\r\n$3\r\nSET\r\n…, the command's name.
func (n *NullListener) reply(b []byte) []byte {
	_, b, _ = bytes.Cut(b, []byte("\r\n"))
	_, b, _ = bytes.Cut(b, []byte("\r\n"))
	name, _, _ := bytes.Cut(b, []byte("\r\n"))
	if r, ok := n.replies[string(name)]; ok {
		return r
	}
	return n.replies[""]
}

func defineNull(fs *flag.FlagSet) func(context.Context, *env) error {
	addr := fs.String("bind", "127.0.0.1", "loopback `address`")
	port := fs.String("port", "0", "`port`; 0 = a free one, printed")
	size := fs.Int("d", valueSize, "`bytes` of the values that it answers")
	return func(ctx context.Context, e *env) error {
		n, err := NewNullListener(net.JoinHostPort(*addr, *port), *size)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "answering on %s\n", n.Addr())
		stop := context.AfterFunc(ctx, func() {
			// Serve ends by it; if it cannot be told, the process is ended by the next signal.
			if err := n.Stop(); err != nil {
				fmt.Fprintln(e.out, err)
			}
		})
		defer stop()
		return n.Serve()
	}
}
