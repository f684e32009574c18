package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"sort"
	"sync"
	"syscall"
	"time"
)

// linkRegistry knows the connections of replication: those that have become replicas' links, and the one to our primary while it is
// up. CLIENT LIST and CLIENT KILL see them.
type linkRegistry struct {
	mu    sync.Mutex
	links map[*linkClient]struct{}
}

// linkClient is a replica's connection after PSYNC, or ours to the primary (master).
type linkClient struct {
	id          uint64
	addr, laddr string
	fd          int
	name        string
	created     time.Time
	conn        net.Conn
	master      bool
}

// primaryLink is the newest connection to the primary.
type primaryLink struct {
	mu   sync.Mutex
	link *linkClient // nil: none yet
}

// dialed notes a connection that has been made to the primary, under an id as clients have them.
func (p *primaryLink) dialed(id uint64, conn net.Conn, now time.Time) {
	l := &linkClient{id: id, addr: conn.RemoteAddr().String(), laddr: conn.LocalAddr().String(), fd: fdOf(conn), created: now, conn: conn,
		master: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = l
}

// show has the registry name the connection while it is up, as in Redis: a handshake is no client.
func (p *primaryLink) show(r *linkRegistry, up bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.link == nil:
	case up:
		r.put(p.link)
	default:
		r.remove(p.link)
	}
}

// fdOf returns the number of the connection's file, -1 if it has none.
func fdOf(conn net.Conn) int {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	fd := -1
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = int(n) }) // fails if it is closed already, and has no number then
		}
	}
	return fd
}

// class is the kind of client for TYPE filters.
func (l *linkClient) class() ConnClass {
	if l.master {
		return classMaster
	}
	return ClassReplica
}

func (r *linkRegistry) add(s *session, name string, conn net.Conn) *linkClient {
	l := &linkClient{id: s.conn.ID, addr: s.conn.RemoteAddr(), laddr: s.conn.LocalAddr(), fd: s.conn.FD(), name: name,
		created: s.conn.Created(), conn: conn}
	r.put(l)
	return l
}

func (r *linkRegistry) put(l *linkClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links == nil {
		r.links = map[*linkClient]struct{}{}
	}
	r.links[l] = struct{}{}
}

func (r *linkRegistry) remove(l *linkClient) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}

// all returns the links in the order of their ids.
func (r *linkRegistry) all() []*linkClient {
	r.mu.Lock()
	out := make([]*linkClient, 0, len(r.links))
	for l := range r.links {
		out = append(out, l)
	}
	r.mu.Unlock()
	sort.Slice(out, func(i, j int) bool { return out[i].id < out[j].id })
	return out
}

// describe is the line of CLIENT LIST. A link has no buffers that could grow (M1).
func (l *linkClient) describe(now time.Time) string {
	flags, cmd, user := "S", "psync", "default"
	if l.master {
		flags, cmd, user = "M", "NULL", "(superuser)"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=0 flags=%s db=0 sub=0 psub=0 ssub=0 multi=-1 "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s "+
		"user=%s redir=-1 resp=2 lib-name= lib-ver=", l.id, l.addr, l.laddr, l.fd, l.name, int64(now.Sub(l.created).Seconds()), flags, cmd, user)
}

// kill cuts the link; the replica, or we, come back and resume.
func (l *linkClient) kill() { _ = l.conn.Close() }
