package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// This file reads redis.conf files and command-line directives, and writes files back for CONFIG REWRITE.

// ConfigError is a line of a configuration file, or a directive of the command line, that cannot be accepted.
type ConfigError struct {
	File   string // "" = the command line
	Line   int    // from 1
	Text   string // the line
	Reason string
}

// Error is the message that Redis prints before it exits, with the file's name added.
func (e *ConfigError) Error() string {
	where := fmt.Sprintf("Reading the configuration file '%s', at line %d", e.File, e.Line)
	if e.File == "" {
		where = "Reading the directives of the command line"
	}
	return fmt.Sprintf("*** FATAL CONFIG FILE ERROR (Redis %s) ***\n%s\n>>> '%s'\n%s", redisVersion, where, e.Text, e.Reason)
}

// maxIncludeDepth bounds nested include lines, so that a file that includes itself is an error instead of a hang.
const maxIncludeDepth = 16

// LoadFile reads a configuration file; "-" reads standard input.
func (c *Config) LoadFile(path string) error {
	if path == "-" {
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("read configuration from standard input: %w", err)
		}
		return c.loadText("-", string(b), 0)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	if err := c.loadFile(abs, 0); err != nil {
		return err
	}
	c.mu.Lock()
	c.mu.file = abs
	c.mu.Unlock()
	return nil
}

func (c *Config) loadFile(path string, depth int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fmt.Errorf("Fatal error, can't open config file '%s': %w", path, err)
	}
	return c.loadText(path, string(b), depth)
}

func (c *Config) loadText(file, text string, depth int) error {
	for i, raw := range strings.Split(text, "\n") {
		line := strings.Trim(raw, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		fail := func(err error) error {
			return &ConfigError{File: file, Line: i + 1, Text: line, Reason: err.Error()}
		}
		words, ok := splitWords(line)
		if !ok {
			return fail(errors.New("Unbalanced quotes in configuration line"))
		}
		if len(words) == 0 {
			continue
		}
		if strings.EqualFold(words[0], "include") && len(words) == 2 {
			if depth >= maxIncludeDepth {
				return fail(errors.New("include lines are nested too deeply"))
			}
			if err := c.include(words[1], depth+1); err != nil {
				return err
			}
			continue
		}
		if err := c.loadWords(words); err != nil {
			return fail(err)
		}
	}
	return nil
}

func (c *Config) include(pattern string, depth int) error {
	if strings.ContainsAny(pattern, "*?[") {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("include %s: %w", pattern, err)
		}
		sort.Strings(files)
		for _, f := range files {
			if err := c.loadFile(f, depth); err != nil {
				return err
			}
		}
		return nil
	}
	return c.loadFile(pattern, depth)
}

// gone are directives of earlier versions that Redis 7 reads and ignores.
var gone = map[string]bool{"list-max-ziplist-entries": true, "list-max-ziplist-value": true, "lua-replicate-commands": true}

// loadWords sets one directive before the server runs.
func (c *Config) loadWords(words []string) error {
	name := strings.ToLower(words[0])
	switch {
	case gone[name] && len(words) == 2:
		return nil
	case name == "rename-command":
		if len(words) != 3 {
			return errWrongArgCount
		}
		c.mu.Lock()
		c.mu.renames = append(c.mu.renames, rename{From: words[1], To: words[2]})
		c.mu.Unlock()
		return nil
	case name == "user":
		return errors.New("users other than the default user are not supported; set requirepass")
	case name == "loadmodule":
		return errors.New("modules are not supported")
	case name == "sentinel":
		return errors.New("sentinel directive while not in sentinel mode")
	}
	i, ok := c.byName[name]
	if !ok {
		return errors.New("Bad directive or wrong number of arguments")
	}
	if len(words) < 2 || len(words) > 2 && c.table[i].kind != kindList {
		return errWrongArgCount
	}
	args := words[1:]
	if c.table[i].kind == kindList && len(args) == 1 && args[0] != "" {
		args = strings.Fields(args[0]) // one quoted argument: --save "60 1000"
	}
	return c.load(name, args)
}

// LoadFlags sets the directives of a command line: --name value …, each up to the next word that begins with "--".
func (c *Config) LoadFlags(args []string) error {
	for i := 0; i < len(args); {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag || name == "" {
			return &ConfigError{Line: 1, Text: args[i], Reason: "Bad directive or wrong number of arguments"}
		}
		words := []string{name}
		if n, v, ok := strings.Cut(name, "="); ok {
			words = []string{n, v}
		}
		start := i
		for i++; i < len(args) && !strings.HasPrefix(args[i], "--"); i++ {
			words = append(words, args[i])
		}
		if len(words) == 1 && strings.EqualFold(words[0], "save") {
			words = append(words, "") // "--save" alone means no save points, as Redis has it
		}
		if err := c.loadWords(words); err != nil {
			return &ConfigError{Line: 1, Text: strings.Join(args[start:i], " "), Reason: err.Error()}
		}
	}
	return nil
}

// splitWords splits a line at blanks. Words may be in double quotes with the escapes \n \r \t \b \a \xHH \" \\, or in
// single quotes with \'. ok is false if a quote is not closed, or closed in the middle of a word.
func splitWords(line string) (words []string, ok bool) {
	i := 0
	for {
		for i < len(line) && isBlank(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		var w []byte
		for i < len(line) && !isBlank(line[i]) {
			switch line[i] {
			case '"':
				n, good := unquoteDouble(line[i:], &w)
				if !good {
					return nil, false
				}
				i += n
			case '\'':
				n, good := unquoteSingle(line[i:], &w)
				if !good {
					return nil, false
				}
				i += n
			default:
				w = append(w, line[i])
				i++
				continue
			}
			if i < len(line) && !isBlank(line[i]) {
				return nil, false
			}
		}
		words = append(words, string(w))
	}
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

// unquoteDouble appends what the double-quoted text at the start of s stands for; n counts the bytes it took.
func unquoteDouble(s string, w *[]byte) (n int, ok bool) {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return i + 1, true
		case s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' && hexDigit(s[i+2]) >= 0 && hexDigit(s[i+3]) >= 0:
			*w = append(*w, byte(hexDigit(s[i+2])<<4|hexDigit(s[i+3])))
			i += 3
		case s[i] == '\\' && i+1 < len(s):
			i++
			c := s[i]
			switch c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'b':
				c = '\b'
			case 'a':
				c = '\a'
			}
			*w = append(*w, c)
		default:
			*w = append(*w, s[i])
		}
	}
	return 0, false
}

func unquoteSingle(s string, w *[]byte) (n int, ok bool) {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			return i + 1, true
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '\'':
			*w = append(*w, '\'')
			i++
		default:
			*w = append(*w, s[i])
		}
	}
	return 0, false
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// appendQuoted appends b in double quotes with Redis's escapes, as CONFIG REWRITE and MONITOR print arguments.
func appendQuoted(dst, b []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range b {
		switch c {
		case '\\', '"':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\a':
			dst = append(dst, '\\', 'a')
		case '\b':
			dst = append(dst, '\\', 'b')
		default:
			if c >= ' ' && c < 0x7f {
				dst = append(dst, c)
			} else {
				dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
			}
		}
	}
	return append(dst, '"')
}

// rewriteSignature precedes the lines that CONFIG REWRITE adds.
const rewriteSignature = "# Generated by CONFIG REWRITE"

// Errors of Rewrite; the second wraps the cause.
var errNoConfigFile = errors.New("The server is running without a config file")

// Rewrite writes the present values into the configuration file. Comments and the order of lines stay: a directive
// keeps its line, a changed one without a line is added at the end. The file is replaced by a rename, so that a crash
// leaves the old one or the new one.
func (c *Config) Rewrite() error {
	path := c.File()
	if path == "" {
		return errNoConfigFile
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := c.rewritten(string(old))
	mode := os.FileMode(0o644)
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
	}
	return replaceFile(path, []byte(text), mode)
}

func replaceFile(path string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error is the one to report
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return err
}

// rewritten returns the text of a configuration file brought up to date.
func (c *Config) rewritten(old string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var lines []string
	at := make(map[int][]int) // directive → its lines
	signed := false
	if old != "" {
		lines = strings.Split(strings.TrimSuffix(old, "\n"), "\n")
	}
	for n, raw := range lines {
		line := strings.Trim(raw, " \t\r\n")
		lines[n] = line
		if line == "" || line[0] == '#' {
			signed = signed || line == rewriteSignature
			continue
		}
		words, ok := splitWords(line)
		if !ok || len(words) == 0 {
			lines[n] = "# ??? " + line
			continue
		}
		if i, ok := c.byName[strings.ToLower(words[0])]; ok {
			at[i] = append(at[i], n)
		}
	}
	for i := range c.table {
		d, v := &c.table[i], c.mu.vals[i]
		has := at[i]
		if len(has) == 0 && v.text == d.def && d.name != "save" {
			continue
		}
		for _, line := range d.render(v) {
			if len(has) > 0 {
				lines[has[0]] = line
				has = has[1:]
				continue
			}
			if !d.mustAppend(line) {
				continue
			}
			if !signed {
				lines, signed = append(lines, "", rewriteSignature), true
			}
			lines = append(lines, line)
		}
		for _, n := range has {
			lines[n] = "" // fewer lines than before
		}
	}
	var b strings.Builder
	blank := false
	for _, line := range lines {
		if line == "" && blank {
			continue
		}
		blank = line == ""
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// mustAppend tells whether a rendered line that the file does not have yet is worth adding: of the classes of
// client-output-buffer-limit only those that differ from the default.
func (d *directive) mustAppend(line string) bool {
	if d.name != "client-output-buffer-limit" {
		return true
	}
	for _, l := range bufferLimitLines(d.name, d.def) {
		if l == line {
			return false
		}
	}
	return true
}

// render returns the lines of a configuration file that set d to v.
func (d *directive) render(v setting) []string {
	if d.lines != nil {
		return d.lines(d.name, v.text)
	}
	switch d.kind {
	case kindMemory:
		return []string{d.name + " " + formatMemory(v.num)}
	case kindPercent:
		if v.num >= 0 {
			return []string{d.name + " " + formatMemory(v.num)}
		}
	case kindString, kindEvents:
		return []string{d.name + " " + string(appendQuoted(nil, []byte(v.text)))}
	}
	return []string{d.name + " " + v.text}
}
