package server

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// CLIENT and its subcommands.

func (s *session) cmdClientID(_ [][]byte) { s.conn.Out().Int(int64(s.conn.ID)) }

func (s *session) cmdClientGetName(_ [][]byte) {
	if name := s.clientName(); name != "" {
		s.conn.Out().BulkString(name)
		return
	}
	s.conn.Out().Null()
}

// validName tells whether a client's name, or the name of its library, has only printable characters and no space.
func validName(name []byte) bool {
	for _, c := range name {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func (s *session) setName(name []byte) bool {
	if !validName(name) {
		s.conn.Out().Error(reply.ClientName)
		return false
	}
	s.shown.Lock()
	s.shown.name = string(name)
	s.shown.Unlock()
	return true
}

func (s *session) cmdClientSetName(args [][]byte) {
	if s.setName(args[2]) {
		s.conn.Out().OK()
	}
}

func (s *session) cmdClientSetInfo(args [][]byte) {
	w := s.conn.Out()
	opt, value := strings.ToLower(string(args[2])), args[3]
	if opt != "lib-name" && opt != "lib-ver" {
		w.Error("ERR Unrecognized option '" + oneLine(string(cString(args[2]))) + "'")
		return
	}
	if !validName(value) {
		w.Error("ERR " + opt + " cannot contain spaces, newlines or special characters.")
		return
	}
	s.shown.Lock()
	if opt == "lib-name" {
		s.shown.lib = string(value)
	} else {
		s.shown.libVer = string(value)
	}
	s.shown.Unlock()
	w.OK()
}

func (s *session) cmdClientInfo(_ [][]byte) {
	s.conn.Out().Verbatim("txt", s.describe(time.Now())+"\n")
}

// unknownClientTypeF is the error for a TYPE filter, Redis's text.
const unknownClientTypeF = "ERR Unknown client type '%s'"

func (s *session) cmdClientList(args [][]byte) {
	w := s.conn.Out()
	now := time.Now()
	keep := func(*session) bool { return true }
	links := func(*linkClient) bool { return false }
	switch {
	case len(args) == 2:
		links = func(*linkClient) bool { return true }
	case len(args) == 4 && isWord(args[2], "type"):
		class, ok := clientTypes[strings.ToLower(string(args[3]))]
		if !ok {
			w.Error(fmt.Sprintf(unknownClientTypeF, cString(args[3])))
			return
		}
		keep = func(o *session) bool { return o.class() == class }
		links = func(l *linkClient) bool { return l.class() == class }
	case len(args) > 3 && isWord(args[2], "id"):
		want := map[uint64]bool{}
		for _, a := range args[3:] {
			id, ok := command.ParseInt(a)
			if !ok {
				w.Error(reply.ClientInvalidID)
				return
			}
			want[uint64(id)] = true
		}
		keep = func(o *session) bool { return want[o.conn.ID] }
		links = func(l *linkClient) bool { return want[l.id] }
	default:
		w.Error(reply.Syntax)
		return
	}
	var b strings.Builder
	for _, o := range s.srv.clients.all() {
		if keep(o) {
			b.WriteString(o.describe(now))
			b.WriteByte('\n')
		}
	}
	for _, l := range s.srv.links.all() {
		if links(l) {
			b.WriteString(l.describe(now))
			b.WriteByte('\n')
		}
	}
	w.Verbatim("txt", b.String())
}

// isWord compares an argument with a lower-case word, ignoring case.
func isWord(arg []byte, word string) bool { return strings.EqualFold(string(arg), word) }

// cmdClientKill closes connections: of one address (the old form), or of all that every filter matches.
func (s *session) cmdClientKill(args [][]byte) {
	w := s.conn.Out()
	if len(args) == 3 {
		addr := string(args[2])
		for _, o := range s.srv.clients.all() {
			if o.conn.RemoteAddr() == addr {
				w.OK()
				s.kill(o)
				return
			}
		}
		for _, l := range s.srv.links.all() {
			if l.addr == addr {
				w.OK()
				l.kill()
				return
			}
		}
		w.Error(reply.ClientNoSuch)
		return
	}
	if len(args)%2 != 0 {
		w.Error(reply.Syntax)
		return
	}
	skipMe := true
	var filters []func(*session) bool
	var links []func(*linkClient) bool // the same for replicas' links
	for i := 2; i+1 < len(args); i += 2 {
		v := args[i+1]
		switch strings.ToLower(string(args[i])) {
		case "id":
			id, ok := command.ParseInt(v)
			if !ok || id < 1 {
				w.Error(reply.ClientIDPositive)
				return
			}
			filters = append(filters, func(o *session) bool { return o.conn.ID == uint64(id) })
			links = append(links, func(l *linkClient) bool { return l.id == uint64(id) })
		case "type":
			class, ok := clientTypes[strings.ToLower(string(v))]
			if !ok {
				w.Error(fmt.Sprintf(unknownClientTypeF, cString(v)))
				return
			}
			filters = append(filters, func(o *session) bool { return o.class() == class })
			links = append(links, func(l *linkClient) bool { return l.class() == class })
		case "addr":
			filters = append(filters, func(o *session) bool { return o.conn.RemoteAddr() == string(v) })
			links = append(links, func(l *linkClient) bool { return l.addr == string(v) })
		case "laddr":
			filters = append(filters, func(o *session) bool { return o.conn.LocalAddr() == string(v) })
			links = append(links, func(l *linkClient) bool { return l.laddr == string(v) })
		case "user":
			if string(v) != "default" {
				w.Error(fmt.Sprintf(reply.ClientNoSuchUserF, cString(v)))
				return
			}
		case "maxage":
			age, ok := command.ParseInt(v)
			if !ok || age < 1 || age > math.MaxInt32 {
				w.Error(reply.NotInt)
				return
			}
			filters = append(filters, func(o *session) bool { return time.Since(o.conn.Created()) >= time.Duration(age)*time.Second })
			links = append(links, func(l *linkClient) bool { return time.Since(l.created) >= time.Duration(age)*time.Second })
		case "skipme":
			switch strings.ToLower(string(v)) {
			case "yes":
				skipMe = true
			case "no":
				skipMe = false
			default:
				w.Error(reply.Syntax)
				return
			}
		default:
			w.Error(reply.Syntax)
			return
		}
	}
	killed := 0
	me := false
next:
	for _, o := range s.srv.clients.all() {
		if o == s && skipMe {
			continue
		}
		for _, f := range filters {
			if !f(o) {
				continue next
			}
		}
		killed++
		if o == s {
			me = true
		} else {
			s.kill(o)
		}
	}
nextLink:
	for _, l := range s.srv.links.all() {
		for _, f := range links {
			if !f(l) {
				continue nextLink
			}
		}
		killed++
		l.kill()
	}
	w.Int(int64(killed))
	if me {
		s.kill(s)
	}
}

// kill closes another connection at once, its own after the reply has left.
func (s *session) kill(o *session) {
	if o == s {
		s.quit = true
		s.conn.CloseAfterFlush()
		return
	}
	s.srv.hub.Leave(o.sub, func() {}) // nothing is counted for it any more
	o.conn.Close()
}

func (s *session) cmdClientNoEvict(args [][]byte) {
	s.onOff(args[2], func(on bool) { s.shown.noEvict = on })
}

func (s *session) cmdClientNoTouch(args [][]byte) {
	s.onOff(args[2], func(on bool) { s.shown.noTouch, s.cl.NoTouch = on, on })
}

func (s *session) onOff(arg []byte, set func(bool)) {
	on := isWord(arg, "on")
	if !on && !isWord(arg, "off") {
		s.conn.Out().Error(reply.Syntax)
		return
	}
	s.shown.Lock()
	set(on)
	s.shown.Unlock()
	s.conn.Out().OK()
}

func (s *session) cmdClientReply(args [][]byte) {
	w := s.conn.Out()
	switch strings.ToLower(string(args[2])) {
	case "on":
		s.reply.off, s.reply.skipThis = false, false // after a SKIP in the same transaction the next command is skipped all the same
		w.OK()
	case "off":
		if !s.reply.off {
			s.reply.off, s.reply.from = true, w.Len()
		}
	case "skip":
		if !s.reply.off {
			s.reply.skipNext = true
		}
	default:
		w.Error(reply.Syntax)
	}
}

func (s *session) cmdClientPause(args [][]byte) {
	w := s.conn.Out()
	if len(args) > 4 {
		w.Error(fmt.Sprintf(reply.SubcommandSyntaxF, cString(args[1]), "CLIENT"))
		return
	}
	onlyWrites := false
	if len(args) == 4 {
		switch strings.ToLower(string(args[3])) {
		case "write":
			onlyWrites = true
		case "all":
		default:
			w.Error(reply.ClientPauseMode)
			return
		}
	}
	ms, ok := command.ParseInt(args[2])
	if !ok || ms > math.MaxInt64/int64(time.Millisecond) {
		w.Error(reply.TimeoutNotInt)
		return
	}
	if ms < 0 {
		w.Error(reply.TimeoutNegative)
		return
	}
	s.srv.pause.begin(time.Now().Add(time.Duration(ms)*time.Millisecond), onlyWrites)
	w.OK()
}

func (s *session) cmdClientUnpause(_ [][]byte) {
	s.srv.pause.end()
	s.conn.Out().OK()
}

func (s *session) cmdClientUnblock(args [][]byte) {
	w := s.conn.Out()
	withError := false
	if len(args) > 4 {
		w.Error(fmt.Sprintf(reply.SubcommandSyntaxF, cString(args[1]), "CLIENT"))
		return
	}
	if len(args) == 4 {
		switch strings.ToLower(string(args[3])) {
		case "timeout":
		case "error":
			withError = true
		default:
			w.Error(reply.ClientUnblockReason)
			return
		}
	}
	id, ok := command.ParseInt(args[2])
	if !ok {
		w.Error(reply.NotInt)
		return
	}
	unblocked := false
	if o := s.srv.clients.get(uint64(id)); o != nil {
		s.withLock(func() { unblocked = s.eng.Unblock(o.cl, withError) })
		text := ""
		if withError {
			text = reply.UnblockedByClient
		}
		unblocked = unblocked || o.unblockWait(text)
	}
	if unblocked {
		w.Int(1)
		return
	}
	w.Int(0)
}
