package server

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/pubsub"
)

// clientRegistry knows the sessions of all connected clients.
type clientRegistry struct {
	mu       sync.Mutex
	sessions map[uint64]*session
}

func (r *clientRegistry) add(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions == nil {
		r.sessions = map[uint64]*session{}
	}
	r.sessions[s.conn.ID] = s
}

func (r *clientRegistry) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s.conn.ID)
}

func (r *clientRegistry) get(id uint64) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sessions[id]
}

// all returns the sessions in the order of their ids.
func (r *clientRegistry) all() []*session {
	r.mu.Lock()
	out := make([]*session, 0, len(r.sessions))
	for _, s := range r.sessions {
		out = append(out, s)
	}
	r.mu.Unlock()
	sort.Slice(out, func(i, j int) bool { return out[i].conn.ID < out[j].conn.ID })
	return out
}

func (r *clientRegistry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// clientName returns the name that CLIENT SETNAME gave.
func (s *session) clientName() string {
	s.shown.Lock()
	defer s.shown.Unlock()
	return s.shown.name
}

// flags are the letters of CLIENT LIST.
func (s *session) flags() string {
	f := ""
	if s.monitors.Load() {
		f += "O"
	}
	if s.sub.Total() > 0 {
		f += "P"
	}
	if s.blocked.Load() {
		f += "b"
	}
	if s.queued.Load() >= 0 {
		f += "x"
	}
	if s.dirtyExec.Load() {
		f += "d"
	}
	if s.conn.IsUnix() {
		f += "U"
	}
	if s.trackRedirect.Load() >= 0 {
		f += "t"
		if s.trackBroken.Load() {
			f += "R"
		}
		if s.trackBcast.Load() {
			f += "B"
		}
	}
	s.shown.Lock()
	defer s.shown.Unlock()
	if s.shown.noEvict {
		f += "e"
	}
	if s.shown.noTouch {
		f += "T"
	}
	if f == "" {
		return "N"
	}
	return f
}

// describe is the line of CLIENT LIST and CLIENT INFO.
func (s *session) describe(now time.Time) string {
	used, size := s.conn.QueryBuffer()
	pending, held := s.conn.OutputPending()
	cmd := "NULL"
	if spec := s.lastCmd.Load(); spec != nil {
		cmd = spec.FullName
	}
	s.shown.Lock()
	name, lib, libVer := s.shown.name, s.shown.lib, s.shown.libVer
	s.shown.Unlock()
	events := "r"
	if pending > 0 {
		events = "rw"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d "+
		"qbuf=%d qbuf-free=%d argv-mem=0 multi-mem=0 rbs=%d rbp=%d obl=%d oll=0 omem=%d tot-mem=%d events=%s cmd=%s "+
		"user=default redir=%d resp=%d lib-name=%s lib-ver=%s",
		s.conn.ID, s.conn.RemoteAddr(), s.conn.LocalAddr(), s.conn.FD(), name, int64(now.Sub(s.conn.Created()).Seconds()),
		int64(max(0, now.Sub(s.conn.LastInteraction())).Seconds()), s.flags(), s.db.Load(),
		s.sub.Count(pubsub.Channel), s.sub.Count(pubsub.Pattern), s.sub.Count(pubsub.Shard), s.queued.Load(),
		used, max(0, size-used), held, held, pending, pending, size+held, events, cmd, s.trackRedirect.Load(), s.proto.Load(), lib, libVer)
}

// classMaster is the link to our primary. No output is limited for it.
const classMaster = numClasses

// clientTypes are the names that TYPE filters take.
var clientTypes = map[string]ConnClass{"normal": ClassNormal, "master": classMaster, "replica": ClassReplica,
	"slave": ClassReplica, "pubsub": ClassPubSub}

// class is the client's kind for TYPE filters. A monitor is a normal client, though its output is limited as a replica's.
func (s *session) class() ConnClass {
	c := s.conn.Class()
	switch {
	case s.sub.Total() > 0:
		return ClassPubSub
	case s.monitors.Load(), c == ClassPubSub: // the latter is being closed
		return ClassNormal
	}
	return c
}

// pauseGate holds clients back for CLIENT PAUSE.
type pauseGate struct {
	active atomic.Bool

	mu struct {
		sync.Mutex
		until  time.Time
		writes bool // only commands that may change the data
		over   chan struct{}
		timer  *time.Timer
	}
}

// begin pauses until a time. A running pause is never made shorter or weaker, as in Redis.
func (p *pauseGate) begin(until time.Time, onlyWrites bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.over != nil {
		if !p.mu.writes {
			onlyWrites = false
		}
		if p.mu.until.After(until) {
			until = p.mu.until
		}
		p.mu.timer.Stop()
	} else {
		p.mu.over = make(chan struct{})
	}
	p.mu.until, p.mu.writes = until, onlyWrites
	p.mu.timer = time.AfterFunc(time.Until(until), p.expire)
	p.active.Store(true)
}

// expire ends the pause if its time is up; a timer of a pause that was prolonged meanwhile finds that it is not.
func (p *pauseGate) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.over == nil {
		return
	}
	if rest := time.Until(p.mu.until); rest > 0 {
		p.mu.timer = time.AfterFunc(rest, p.expire)
		return
	}
	p.endLocked()
}

// end lets everybody go on.
func (p *pauseGate) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
}

func (p *pauseGate) endLocked() {
	if p.mu.over == nil {
		return
	}
	p.mu.timer.Stop()
	close(p.mu.over)
	p.mu.over = nil
	p.active.Store(false)
}

// holds tells whether the pause applies to a command of a client with the given transaction.
func (p *pauseGate) holds(spec *command.Spec, multi *transaction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.over == nil {
		return false
	}
	if !p.mu.writes {
		return true
	}
	return spec.Flags&(command.FlagWrite|command.FlagMayReplicate) != 0 || spec.Name == "exec" && multi.writes
}

// wait returns when the pause is over or ctx ends.
func (p *pauseGate) wait(ctx connContext) {
	for {
		p.mu.Lock()
		over := p.mu.over
		p.mu.Unlock()
		if over == nil {
			return
		}
		select {
		case <-over:
		case <-ctx.done:
			return
		}
	}
}

// monitorHub shows executed commands to the clients that asked for it with MONITOR.
type monitorHub struct {
	active atomic.Bool

	mu struct {
		sync.Mutex
		sessions map[*session]struct{}
		line     []byte
	}
}

func (h *monitorHub) add(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.sessions == nil {
		h.mu.sessions = map[*session]struct{}{}
	}
	h.mu.sessions[s] = struct{}{}
	h.active.Store(true)
}

func (h *monitorHub) remove(s *session) {
	if !h.active.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mu.sessions, s)
	h.active.Store(len(h.mu.sessions) > 0)
}

// feed writes the line of one command to every monitor. Secrets are blanked out.
func (h *monitorHub) feed(from *session, spec *command.Spec, args [][]byte) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	addr := from.conn.RemoteAddr()
	if from.conn.IsUnix() {
		addr = "unix:" + strings.TrimSuffix(addr, ":0")
	}
	b := fmt.Appendf(h.mu.line[:0], "+%d.%06d [%d %s]", now.Unix(), now.Nanosecond()/1000, from.cl.DB, addr)
	hide := secretArgs(spec, args)
	for i, a := range args {
		b = append(b, ' ')
		if hide(i) {
			a = []byte("(redacted)")
		}
		b = appendQuoted(b, a)
	}
	b = append(b, "\r\n"...)
	h.mu.line = b
	for s := range h.mu.sessions {
		s.conn.WriteAsync(b)
	}
}

// secretArgs tells which arguments of a command must not be shown or logged: passwords.
func secretArgs(spec *command.Spec, args [][]byte) func(i int) bool {
	switch spec.FullName {
	case "auth":
		return func(i int) bool { return i >= 1 }
	case "hello":
		from := len(args)
		for i := 2; i < len(args); i++ {
			if strings.EqualFold(string(args[i]), "auth") {
				from = i
				break
			}
		}
		return func(i int) bool { return i > from && i <= from+2 }
	case "config|set":
		return func(i int) bool {
			if i < 3 || i%2 == 0 {
				return false
			}
			switch strings.ToLower(string(args[i-1])) {
			case "requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass":
				return true
			}
			return false
		}
	}
	return func(int) bool { return false }
}
