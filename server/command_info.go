package server

import (
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// COMMAND and its subcommands: all of it computed from the command table.

func (s *session) cmdCommand(_ [][]byte) {
	w := s.conn.Out()
	all := s.srv.table.All()
	w.Array(len(all))
	for _, spec := range all {
		writeCommandInfo(w, spec)
	}
}

func (s *session) cmdCommandCount(_ [][]byte) { s.conn.Out().Int(int64(len(s.srv.table.All()))) }

// named finds a row by "name" or "container|sub".
func (s *session) named(name []byte) *command.Spec {
	base, sub, isSub := strings.Cut(string(name), "|")
	spec := s.srv.names.lookup([]byte(base))
	if spec != nil && isSub {
		return spec.Sub([]byte(sub))
	}
	return spec
}

func (s *session) cmdCommandInfo(args [][]byte) {
	if len(args) == 2 {
		s.cmdCommand(args)
		return
	}
	w := s.conn.Out()
	w.Array(len(args) - 2)
	for _, name := range args[2:] {
		if spec := s.named(name); spec != nil {
			writeCommandInfo(w, spec)
		} else {
			w.Null()
		}
	}
}

func writeCommandInfo(w *reply.Writer, spec *command.Spec) {
	w.Array(10)
	w.BulkString(spec.FullName)
	w.Int(int64(spec.Arity))
	writeWords(w, spec.Flags.Names(), "")
	w.Int(int64(spec.FirstKey))
	w.Int(int64(spec.LastKey))
	w.Int(int64(spec.Step))
	writeWords(w, spec.ACL.Names(), "@")
	w.Set(len(spec.Tips))
	for _, t := range spec.Tips {
		w.BulkString(t)
	}
	w.Set(len(spec.KeySpecs))
	for i := range spec.KeySpecs {
		writeKeySpec(w, &spec.KeySpecs[i])
	}
	w.Set(len(spec.Subcommands))
	for i := range spec.Subcommands {
		writeCommandInfo(w, &spec.Subcommands[i])
	}
}

func writeWords(w *reply.Writer, words []string, prefix string) {
	w.Set(len(words))
	for _, n := range words {
		w.Simple(prefix + n)
	}
}

func writeKeySpec(w *reply.Writer, k *command.KeySpec) {
	n := 3
	if k.Notes != "" {
		n++
	}
	w.Map(n)
	if k.Notes != "" {
		w.BulkString("notes")
		w.BulkString(k.Notes)
	}
	w.BulkString("flags")
	writeWords(w, k.Flags, "")
	w.BulkString("begin_search")
	w.Map(2)
	w.BulkString("type")
	switch {
	case k.BeginUnknown:
		w.BulkString("unknown")
		w.BulkString("spec")
		w.Map(0)
	case k.BeginKeyword != "":
		w.BulkString("keyword")
		w.BulkString("spec")
		w.Map(2)
		w.BulkString("keyword")
		w.BulkString(k.BeginKeyword)
		w.BulkString("startfrom")
		w.Int(int64(k.BeginKeywordFrom))
	default:
		w.BulkString("index")
		w.BulkString("spec")
		w.Map(1)
		w.BulkString("index")
		w.Int(int64(k.BeginIndex))
	}
	w.BulkString("find_keys")
	w.Map(2)
	w.BulkString("type")
	field := func(name string, v int) {
		w.BulkString(name)
		w.Int(int64(v))
	}
	switch {
	case k.FindUnknown:
		w.BulkString("unknown")
		w.BulkString("spec")
		w.Map(0)
	case k.KeyNum:
		w.BulkString("keynum")
		w.BulkString("spec")
		w.Map(3)
		field("keynumidx", k.KeyNumIdx)
		field("firstkey", k.FirstKey)
		field("keystep", k.Step)
	default:
		w.BulkString("range")
		w.BulkString("spec")
		w.Map(3)
		field("lastkey", k.LastKey)
		field("keystep", k.Step)
		field("limit", k.Limit)
	}
}

// cmdCommandList lists names, all or those that a filter selects; subcommands are listed under their full names.
func (s *session) cmdCommandList(args [][]byte) {
	w := s.conn.Out()
	keep := func(*command.Spec) bool { return true }
	if len(args) > 2 {
		if len(args) != 5 || !isWord(args[2], "filterby") {
			w.Error(reply.Syntax)
			return
		}
		value := string(args[4])
		switch strings.ToLower(string(args[3])) {
		case "module":
			keep = func(*command.Spec) bool { return false }
		case "aclcat":
			bit := command.CategoryNamed(strings.ToLower(value))
			keep = func(spec *command.Spec) bool { return bit != 0 && spec.ACL&bit != 0 }
		case "pattern":
			keep = func(spec *command.Spec) bool { return command.MatchName(value, spec.FullName) }
		default:
			w.Error(reply.Syntax)
			return
		}
	}
	var names []string
	for _, spec := range s.srv.table.All() {
		if keep(spec) {
			names = append(names, spec.FullName)
		}
		for i := range spec.Subcommands {
			if keep(&spec.Subcommands[i]) {
				names = append(names, spec.Subcommands[i].FullName)
			}
		}
	}
	w.Array(len(names))
	for _, n := range names {
		w.BulkString(n)
	}
}

// keysOf checks the command that follows and returns its row and the indexes of its keys; it replies with the error.
func (s *session) keysOf(args [][]byte) (spec *command.Spec, keys []int) {
	w := s.conn.Out()
	spec = s.srv.names.find(args)
	switch {
	case spec == nil:
		w.Error(reply.CommandInvalid)
		return nil, nil
	case spec.FirstKey == 0 && spec.Keys == nil && len(spec.KeySpecs) == 0, notKeys(spec):
		w.Error(reply.CommandNoKeys)
		return nil, nil
	case !spec.ArityOK(len(args)):
		w.Error(reply.CommandInvalidNumArgs)
		return nil, nil
	}
	spec.EachKey(args, func(i int) { keys = append(keys, i) })
	if len(keys) == 0 {
		if spec.Flags&command.FlagNoMandatoryKeys != 0 {
			w.Array(0)
		} else {
			w.Error(reply.CommandInvalidArgs)
		}
		return nil, nil
	}
	return spec, keys
}

// notKeys tells whether what stands where keys do are none: shard channels.
func notKeys(spec *command.Spec) bool {
	return len(spec.KeySpecs) > 0 && slices.Contains(spec.KeySpecs[0].Flags, "not_key")
}

func (s *session) cmdCommandGetKeys(args [][]byte) {
	args = args[2:]
	spec, keys := s.keysOf(args)
	if spec == nil {
		return
	}
	w := s.conn.Out()
	w.Array(len(keys))
	for _, i := range keys {
		w.Bulk(args[i])
	}
}

func (s *session) cmdCommandGetKeysAndFlags(args [][]byte) {
	args = args[2:]
	spec, keys := s.keysOf(args)
	if spec == nil {
		return
	}
	w := s.conn.Out()
	w.Array(len(keys))
	for _, i := range keys {
		w.Array(2)
		w.Bulk(args[i])
		writeWords(w, keyFlags(spec, args, i), "")
	}
}

// keyFlags returns the flags of the key specification that covers argument i; where they depend on the options, those
// that the options given make true.
func keyFlags(spec *command.Spec, args [][]byte, i int) []string {
	switch spec.Name {
	case "set":
		if slices.ContainsFunc(args[min(3, len(args)):], func(a []byte) bool { return isWord(a, "get") }) {
			return []string{"RW", "access", "update"}
		}
		return []string{"OW", "update"}
	case "bitfield":
		if !slices.ContainsFunc(args[min(2, len(args)):], func(a []byte) bool { return isWord(a, "set") || isWord(a, "incrby") }) {
			return []string{"RO", "access"}
		}
		return []string{"RW", "access", "update"}
	}
	var found *command.KeySpec
	for k := range spec.KeySpecs {
		ks := &spec.KeySpecs[k]
		if ks.BeginIndex > 0 && ks.BeginIndex <= i && (found == nil || ks.BeginIndex > found.BeginIndex) {
			found = ks
		}
	}
	if found == nil && len(spec.KeySpecs) > 0 {
		found = &spec.KeySpecs[len(spec.KeySpecs)-1]
	}
	if found == nil {
		return nil
	}
	return found.Flags
}
