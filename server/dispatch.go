package server

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// This file decides whether a command may run: it exists, its arguments are as many as it wants, the client has
// authenticated. The order of the checks and the texts are those of Redis's processCommand.

// handlerMode says where a session command may run.
type handlerMode uint8

const (
	// anywhere: with or without the engine's lock, on the loop.
	anywhere handlerMode = iota
	// unlocked: it must not find the lock held (it takes it itself, or takes a while), on the loop.
	unlocked
	// waits: it may wait, so it runs off the loop, without the lock.
	waits
)

// Within a transaction commands run in their place, under the one hold of the lock that makes it atomic. A command of another
// mode than anywhere cannot, unless inside says so: the transaction lets go of the lock for it. What stands before it and what
// follows are then two records of the log, and others may see what is between. (Sentinel's transactions are of this kind:
// REPLICAOF, CONFIG REWRITE, CLIENT KILL.)

// outcome is what became of a session command.
type outcome bool

const (
	done  outcome = false
	again outcome = true // not begun; it has to be tried again off the loop
)

// sessionHandler runs a command that has no handler in the command table.
type sessionHandler struct {
	run  func(*session, *command.Spec, [][]byte) outcome
	mode handlerMode
	// inside tells whether it may run under the lock all the same, within a transaction (session.locked tells the handler).
	// nil: never.
	inside func(s *session, args [][]byte) bool
}

// within makes a handler that can do with the lock held part of transactions.
func (h sessionHandler) within(when func(s *session, args [][]byte) bool) sessionHandler {
	h.inside = when
	return h
}

// always is for handlers that can do with the lock held, whatever their arguments.
func always(*session, [][]byte) bool { return true }

// cuts tells whether a transaction has to let go of the lock for this command.
func (h *sessionHandler) cuts(s *session, args [][]byte) bool {
	return h.mode != anywhere && (h.inside == nil || !h.inside(s, args))
}

// plain adapts a handler that always completes.
func plain(mode handlerMode, run func(*session, [][]byte)) sessionHandler {
	return sessionHandler{mode: mode, run: func(s *session, _ *command.Spec, args [][]byte) outcome {
		run(s, args)
		return done
	}}
}

// bindHandlers lays the handlers out by Spec.ID. It panics if a row has no handler or two: the tables are constants of
// the program, so that this is found by the first test.
func bindHandlers(t *command.Table, handlers map[string]sessionHandler) []sessionHandler {
	out := make([]sessionHandler, t.Count())
	bound := 0
	bind := func(s *command.Spec) {
		h, ok := handlers[s.FullName]
		if ok == (s.Handler != nil) && (ok || len(s.Subcommands) == 0) {
			panic(fmt.Sprintf("server: command %q has a handler in the table: %v, in the session layer: %v",
				s.FullName, s.Handler != nil, ok))
		}
		if ok {
			out[s.ID] = h
			bound++
		}
	}
	for _, s := range t.All() {
		bind(s)
		for i := range s.Subcommands {
			bind(&s.Subcommands[i])
		}
	}
	if bound != len(handlers) {
		panic("server: a session handler has no row in the command table")
	}
	return out
}

// nameTable finds commands by name, with rename-command in force.
type nameTable struct {
	table   *command.Table
	renamed map[string]*command.Spec // lower case; nil value: the name is gone. nil map: no renames
}

// newNameTable applies rename-command lines. The errors are Redis's.
func newNameTable(t *command.Table, renames []rename) (*nameTable, error) {
	n := &nameTable{table: t}
	for _, r := range renames {
		spec := n.lookup([]byte(r.From))
		if spec == nil {
			return nil, fmt.Errorf("No such command in rename-command: %s", r.From)
		}
		if n.renamed == nil {
			n.renamed = map[string]*command.Spec{}
		}
		to := strings.ToLower(r.To)
		if to != "" && n.lookup([]byte(to)) != nil {
			return nil, fmt.Errorf("Target command name already exists: %s", r.To)
		}
		n.renamed[strings.ToLower(r.From)] = nil
		if to != "" {
			n.renamed[to] = spec
		}
	}
	return n, nil
}

func (n *nameTable) lookup(name []byte) *command.Spec {
	if n.renamed != nil {
		if spec, ok := n.renamed[strings.ToLower(string(name))]; ok {
			return spec
		}
	}
	return n.table.Lookup(name)
}

// find returns the row that args select, the row of a subcommand if there is one; nil if there is none.
func (n *nameTable) find(args [][]byte) *command.Spec {
	spec := n.lookup(args[0])
	if spec != nil && len(args) > 1 && len(spec.Subcommands) > 0 {
		return spec.Sub(args[1])
	}
	return spec
}

// admit finds the command and decides whether this client may run it now. refusal is the error reply, "" if it may.
func (s *session) admit(row *command.Spec, args [][]byte) (spec *command.Spec, refusal string) {
	spec = row
	if spec == nil {
		return nil, unknownCommand(args)
	}
	if len(spec.Subcommands) > 0 && len(args) > 1 {
		sub := spec.Sub(args[1])
		if sub == nil {
			return nil, unknownSubcommand(args)
		}
		spec = sub
	}
	if !spec.ArityOK(len(args)) {
		return spec, wrongArity(spec)
	}
	if !s.authed && spec.Flags&command.FlagNoAuth == 0 {
		return spec, reply.NoAuth
	}
	if spec.Name == "debug" && !s.allowed("enable-debug-command") {
		return spec, fmt.Sprintf(reply.CommandNotAllowedLocalF, "DEBUG", "enable-debug-command")
	}
	if s.multi.active {
		if spec.Flags&command.FlagNoMulti != 0 {
			return spec, reply.NotInsideMulti
		}
		if spec.Write() && !s.multi.broken {
			if msg := s.eng.WriteRefusal(); msg != "" {
				return spec, msg
			}
		}
	}
	if s.pubsub && s.conn.Out().Proto() == 2 && !whileSubscribed(spec) {
		if msg := s.eng.WriteRefusal(); spec.Write() && msg != "" {
			return spec, msg
		}
		return spec, fmt.Sprintf(reply.SubscribedOnlyF, spec.FullName)
	}
	if s.srv.repl.stale.Load() && s.needsLink(spec) {
		if spec.Write() || spec.Name == "exec" && s.multi.writes {
			if msg := s.eng.WriteRefusal(); msg != "" {
				return spec, msg
			}
		}
		return spec, reply.MasterDown
	}
	if s.monitor && spec.Flags&(command.FlagWrite|command.FlagReadonly) != 0 {
		return spec, reply.ReplicaKeyspace
	}
	return spec, ""
}

// needsLink tells whether a replica whose link is down refuses a command with replica-serve-stale-data no. EXEC needs what its
// commands need.
func (s *session) needsLink(spec *command.Spec) bool {
	return spec.Flags&command.FlagStale == 0 || spec.Name == "exec" && s.multi.needsLink
}

// refuse answers a command that does not run. Inside MULTI it dooms the transaction.
func (s *session) refuse(spec *command.Spec, text string, start int) {
	if s.multi.active {
		s.multi.broken = true
		s.dirtyExec.Store(true)
	}
	w := s.conn.Out()
	if spec != nil && spec.Name == "exec" {
		w.Error(fmt.Sprintf(reply.ExecAbortF, strings.TrimPrefix(text, "ERR ")))
		s.discard()
	} else {
		w.Error(text)
	}
	s.srv.stats.rejected(spec)
	s.srv.stats.failure(w.LastError())
	s.endCaching(spec)
	s.finishReply(start)
}

// speaksHTTP tells whether a line that is no command is one of HTTP's. A browser can be made to send them, from within a network, by a page
// that it shows, with commands in the request's body: so nothing that follows may be executed.
func speaksHTTP(name []byte) bool { return isWord(name, "post") || isWord(name, "host:") }

// httpWarningPause is how far apart warnings about such lines are at least, so that they cannot fill the disk; Redis's, too.
const httpWarningPause = time.Minute

// endHTTP closes the connection without an answer, and drops what it sent.
func (s *session) endHTTP() {
	s.quit = true
	s.conn.Close()
	now, last := monotonic(), s.srv.httpWarned.Load()
	if (last == 0 || now-last >= int64(httpWarningPause)) && s.srv.httpWarned.CompareAndSwap(last, now) {
		s.srv.log.Warn("connection closed, it speaks HTTP: perhaps an attack through somebody's browser", "client", s.conn.RemoteAddr())
	}
}

func wrongArity(spec *command.Spec) string {
	return fmt.Sprintf(reply.WrongArityF, spec.FullName)
}

// unknownQuoteLimit bounds the arguments that the error for an unknown command repeats, in bytes.
const unknownQuoteLimit = 128

// unknownCommand is Redis's text, in which C strings end at the first NUL.
func unknownCommand(args [][]byte) string {
	var quoted []byte
	for _, a := range args[1:] {
		if len(quoted) >= unknownQuoteLimit {
			break
		}
		a = cString(a)
		quoted = append(quoted, '\'')
		quoted = append(quoted, a[:min(len(a), unknownQuoteLimit-len(quoted)+1)]...)
		quoted = append(quoted, "' "...)
	}
	name := cString(args[0])
	return oneLine(fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", name[:min(len(name), unknownQuoteLimit)], quoted))
}

func unknownSubcommand(args [][]byte) string {
	sub := cString(args[1])
	return oneLine(fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", sub[:min(len(sub), unknownQuoteLimit)],
		strings.ToUpper(string(cString(args[0])))))
}

func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func oneLine(s string) string { return lineBreaks.Replace(s) }

// allowed tells whether a no|yes|local directive admits this client.
func (s *session) allowed(directive string) bool {
	switch s.srv.cfg.Text(directive) {
	case "yes":
		return true
	case "local":
		return s.isLocal()
	}
	return false
}

// isLocal tells whether the client came over the loopback interface or the unix socket.
func (s *session) isLocal() bool {
	if s.conn.IsUnix() {
		return true
	}
	addr := s.conn.RemoteAddr()
	return strings.HasPrefix(addr, "127.") || strings.HasPrefix(addr, "[::1]:") || strings.HasPrefix(addr, "::1:")
}
