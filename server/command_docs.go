package server

import (
	"strings"

	"github.com/holdfast-db/holdfast/server/command"
	"github.com/holdfast-db/holdfast/server/reply"
)

// docField is a field of a map in COMMAND DOCS.
type docField struct {
	name  string
	write func(w *reply.Writer)
}

// docFields gathers the fields that a row or an argument has, since a map is announced with their number.
type docFields []docField

// text adds a field unless it is empty.
func (f *docFields) text(name, value string) {
	if value != "" {
		*f = append(*f, docField{name, func(w *reply.Writer) { w.BulkString(value) }})
	}
}

// words adds a set of flags unless it is empty.
func (f *docFields) words(name string, words []string) {
	if len(words) > 0 {
		*f = append(*f, docField{name, func(w *reply.Writer) { writeWords(w, words, "") }})
	}
}

// args adds a list of arguments unless it is empty.
func (f *docFields) args(args []command.Arg) {
	if len(args) > 0 {
		*f = append(*f, docField{"arguments", func(w *reply.Writer) { writeArgDocs(w, args) }})
	}
}

func (f docFields) writeTo(w *reply.Writer) {
	w.Map(len(f))
	for _, field := range f {
		w.BulkString(field.name)
		field.write(w)
	}
}

func (s *session) cmdCommandDocs(args [][]byte) {
	w := s.conn.Out()
	var rows []*command.Spec
	if len(args) == 2 {
		rows = s.srv.table.All()
	} else {
		for _, name := range args[2:] {
			if spec := s.named(name); spec != nil {
				rows = append(rows, spec)
			}
		}
	}
	w.Map(len(rows))
	for _, spec := range rows {
		w.BulkString(spec.FullName)
		writeCommandDocs(w, spec)
	}
}

func writeCommandDocs(w *reply.Writer, spec *command.Spec) {
	deprecatedSince, replacedBy, deprecated := strings.Cut(spec.Deprecated, " ")
	var docFlags []string
	if deprecated {
		docFlags = append(docFlags, "deprecated")
	}
	if spec.SysCmd {
		docFlags = append(docFlags, "syscmd")
	}
	var f docFields
	f.text("summary", spec.Summary)
	f.text("since", spec.Since)
	f.text("group", spec.Group)
	f.text("complexity", spec.Complexity)
	f.words("doc_flags", docFlags)
	f.text("deprecated_since", deprecatedSince)
	f.text("replaced_by", replacedBy)
	if len(spec.History) > 0 {
		f = append(f, docField{"history", func(w *reply.Writer) { writeHistory(w, spec.History) }})
	}
	f.args(spec.SyntaxArgs)
	if len(spec.Subcommands) > 0 {
		f = append(f, docField{"subcommands", func(w *reply.Writer) {
			w.Map(len(spec.Subcommands))
			for i := range spec.Subcommands {
				w.BulkString(spec.Subcommands[i].FullName)
				writeCommandDocs(w, &spec.Subcommands[i])
			}
		}})
	}
	f.writeTo(w)
}

func writeHistory(w *reply.Writer, history []string) {
	w.Set(len(history))
	for _, h := range history {
		version, what, _ := strings.Cut(h, " ")
		w.Array(2)
		w.BulkString(version)
		w.BulkString(what)
	}
}

func writeArgDocs(w *reply.Writer, args []command.Arg) {
	w.Array(len(args))
	for i := range args {
		a := &args[i]
		var f docFields
		f.text("name", a.Name)
		f.text("type", string(a.Type))
		if a.KeySpec != command.NoKeySpec {
			f = append(f, docField{"key_spec_index", func(w *reply.Writer) { w.Int(int64(a.KeySpec)) }})
		}
		f.text("token", a.Token)
		f.text("since", a.Since)
		f.text("deprecated_since", a.DeprecatedSince)
		f.words("flags", a.Flags())
		f.args(a.Args)
		f.writeTo(w)
	}
}
