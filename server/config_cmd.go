package server

import (
	"errors"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// CONFIG and its subcommands.

func (s *session) cmdConfigGet(args [][]byte) {
	patterns := make([]string, 0, len(args)-2)
	for _, a := range args[2:] {
		patterns = append(patterns, string(a))
	}
	pairs := s.srv.cfg.Get(patterns, command.MatchName)
	w := s.conn.Out()
	w.Map(len(pairs))
	for _, p := range pairs {
		w.BulkString(p.Name)
		w.BulkString(p.Value)
	}
}

func (s *session) cmdConfigSet(args [][]byte) {
	w := s.conn.Out()
	if len(args)%2 != 0 {
		w.Error(reply.Syntax)
		return
	}
	var pairs []Pair
	for i := 2; i < len(args); i += 2 {
		pairs = append(pairs, Pair{string(args[i]), string(args[i+1])})
	}
	// A transaction has locked configSet before the executor lock, see execPart.
	if !s.locked {
		s.srv.configSet.Lock()
		defer s.srv.configSet.Unlock()
	}
	s.srv.configSet.inside = s.locked
	if err := s.srv.cfg.Set(s.srv, pairs, s.allowed("enable-protected-configs")); err != nil {
		w.Error("ERR " + err.Error())
		return
	}
	w.OK()
}

// liveConfigSet tells whether a CONFIG SET can take effect while the executor lock is held.
func liveConfigSet(s *session, args [][]byte) bool {
	for i := 2; i < len(args); i += 2 {
		if !s.srv.cfg.live(string(args[i])) {
			return false
		}
	}
	return true
}

func (s *session) cmdConfigRewrite(_ [][]byte) {
	w := s.conn.Out()
	err := s.srv.cfg.Rewrite()
	switch {
	case err == nil:
		s.srv.log.Info("configuration file rewritten", "file", s.srv.cfg.File())
		w.OK()
	case errors.Is(err, errNoConfigFile):
		w.Error("ERR " + err.Error())
	default:
		s.srv.log.Warn("configuration file not rewritten", "file", s.srv.cfg.File(), "error", err)
		w.Error("ERR Rewriting config file: " + err.Error())
	}
}

func (s *session) cmdConfigResetStat(_ [][]byte) {
	s.withLock(s.srv.resetStats)
	s.conn.Out().OK()
}
