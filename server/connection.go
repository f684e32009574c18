package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// Commands about the connection itself: AUTH, HELLO, QUIT, RESET. There is one user, "default", whose password is
// requirepass.

// defaultUser is the only user.
const defaultUser = "default"

// authenticate checks a user's password. Without a password the default user may come in with any, as in Redis.
func (s *session) authenticate(user, password []byte) bool {
	want := *s.srv.password.Load()
	ok := string(user) == defaultUser &&
		(want == "" || subtle.ConstantTimeCompare([]byte(want), password) == 1)
	if ok {
		s.authed = true
		s.conn.Guard().SetAuthenticated(true)
	}
	return ok
}

func (s *session) cmdAuth(args [][]byte) {
	w := s.conn.Out()
	switch len(args) {
	case 2:
		if *s.srv.password.Load() == "" {
			w.Error(reply.AuthNoPassword)
			return
		}
		if !s.authenticate([]byte(defaultUser), args[1]) {
			w.Error(reply.WrongPass)
			return
		}
	case 3:
		if !s.authenticate(args[1], args[2]) {
			w.Error(reply.WrongPass)
			return
		}
	default:
		w.Error(reply.Syntax)
		return
	}
	w.OK()
}

func (s *session) cmdHello(args [][]byte) {
	w := s.conn.Out()
	proto := int64(0)
	next := 1
	if len(args) > 1 {
		n, ok := command.ParseInt(args[1])
		if !ok {
			w.Error(reply.ProtoNotInt)
			return
		}
		if n < 2 || n > 3 {
			w.Error(reply.NoProto)
			return
		}
		proto = n
		next = 2
	}
	var user, pass, name []byte
	for i := next; i < len(args); i++ {
		more := len(args) - 1 - i
		switch {
		case isWord(args[i], "auth") && more >= 2:
			user, pass = args[i+1], args[i+2]
			i += 2
		case isWord(args[i], "setname") && more >= 1:
			name = args[i+1]
			if !validName(name) {
				w.Error(reply.ClientName)
				return
			}
			i++
		default:
			w.Error(fmt.Sprintf(reply.HelloSyntaxF, cString(args[i])))
			return
		}
	}
	if user != nil && !s.authenticate(user, pass) {
		w.Error(reply.WrongPass)
		return
	}
	if !s.authed {
		w.Error(reply.HelloNoAuth)
		return
	}
	if name != nil {
		s.setName(name)
	}
	if proto != 0 {
		s.setProto(int(proto))
	}
	w.Map(7)
	w.BulkString("server")
	w.BulkString("redis")
	w.BulkString("version")
	w.BulkString(redisVersion)
	w.BulkString("proto")
	w.Int(int64(w.Proto()))
	w.BulkString("id")
	w.Int(int64(s.conn.ID))
	w.BulkString("mode")
	w.BulkString("standalone")
	w.BulkString("role")
	if s.srv.repl.following.Load() != nil {
		w.BulkString("replica")
	} else {
		w.BulkString("master")
	}
	w.BulkString("modules")
	w.Array(0)
}

// setProto changes the version of the protocol, for messages to the client, too, from one place among them on.
func (s *session) setProto(n int) {
	set := func() {
		s.conn.Out().SetProto(n)
		s.proto.Store(int32(n))
	}
	if !s.pubsub {
		set()
		return
	}
	s.srv.hub.Still(func() {
		s.takeMessages()
		set()
	})
}

func (s *session) cmdQuit(_ [][]byte) {
	s.conn.Out().OK()
	s.quit = true
	s.conn.CloseAfterFlush()
}

// cmdReset puts the connection into the state of a new one.
func (s *session) cmdReset(_ [][]byte) {
	s.discard()
	s.leavePubSub()
	s.setDB(0)
	s.setProto(2)
	s.resetAuth()
	s.reply.off, s.reply.skipNext = false, false // a SKIP before it still applies to its own reply
	s.stopMonitor()
	if s.track.on {
		s.withLock(func() { s.srv.tracker.disable(s) })
	}
	s.shown.Lock()
	s.shown.name, s.shown.noEvict, s.shown.noTouch, s.cl.NoTouch = "", false, false, false
	s.shown.Unlock()
	s.conn.Out().Simple("RESET")
}

func (s *session) cmdMonitor(_ [][]byte) {
	w := s.conn.Out()
	if s.multi.active {
		w.Error(reply.MonitorDenyBlocking)
		return
	}
	if !s.monitor {
		s.monitor = true
		s.monitors.Store(true)
		s.conn.SetNoIdle(true)
		s.setClass()
		s.srv.monitorHub.add(s)
	}
	w.OK()
}

func (s *session) stopMonitor() {
	if !s.monitor {
		return
	}
	s.monitor = false
	s.monitors.Store(false)
	s.srv.monitorHub.remove(s)
	s.conn.SetNoIdle(false)
	s.setClass()
}

// --- ACL: what can be asked with one user

func (s *session) cmdACLWhoAmI(_ [][]byte) { s.conn.Out().BulkString(defaultUser) }

func (s *session) cmdACLUsers(_ [][]byte) {
	w := s.conn.Out()
	w.Array(1)
	w.BulkString(defaultUser)
}

func (s *session) cmdACLList(_ [][]byte) {
	w := s.conn.Out()
	w.Array(1)
	rules := "nopass"
	if pass := *s.srv.password.Load(); pass != "" {
		rules = fmt.Sprintf("#%x", sha256.Sum256([]byte(pass)))
	}
	w.BulkString("user " + defaultUser + " on " + rules + " ~* &* +@all")
}

func (s *session) cmdACLCat(args [][]byte) {
	w := s.conn.Out()
	if len(args) > 3 {
		w.Error(reply.Syntax)
		return
	}
	names := command.AllCategories()
	if len(args) == 2 {
		w.Array(len(names))
		for _, n := range names {
			w.BulkString(n)
		}
		return
	}
	want := strings.ToLower(string(args[2]))
	bit := command.CategoryNamed(want)
	if bit == 0 {
		w.Error(fmt.Sprintf("ERR Unknown category '%s'", cString(args[2])))
		return
	}
	var out []string
	eachRow(s.srv.table, func(spec *command.Spec) {
		if spec.ACL&bit != 0 {
			out = append(out, spec.FullName)
		}
	})
	w.Array(len(out))
	for _, n := range out {
		w.BulkString(n)
	}
}

// eachRow calls fn for each row of the table, subcommands after their container.
func eachRow(t *command.Table, fn func(*command.Spec)) {
	for _, spec := range t.All() {
		fn(spec)
		for i := range spec.Subcommands {
			fn(&spec.Subcommands[i])
		}
	}
}
