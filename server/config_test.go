package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMemory(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "100": 100, "1k": 1000, "1kb": 1024, "2mb": 2 << 20, "1GB": 1 << 30, "5m": 5000000, "7B": 7, "3g": 3e9} {
		got, ok := parseMemory(in)
		require.True(t, ok, in)
		require.Equal(t, want, got, in)
		if n, ok := parseMemory(formatMemory(want)); !ok || n != want {
			t.Errorf("formatMemory(%d) = %q, read back as %d", want, formatMemory(want), n)
		}
	}
	for _, in := range []string{"", "kb", "-1", "1tb", "1 kb", "9223372036854775808", "9223372036854775807kb"} {
		_, ok := parseMemory(in)
		require.False(t, ok, in)
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		`save 900 1`:       {"save", "900", "1"},
		`a "b c" 'd\'e'`:   {"a", "b c", "d'e"},
		`x "\x41\n\t\"\\"`: {"x", "A\n\t\"\\"},
		`  lead  "" `:      {"lead", ""},
		`mid"quoted"`:      {"midquoted"},
		`"\q"`:             {"q"},
		"tab\tsep":         {"tab", "sep"},
	} {
		got, ok := splitWords(in)
		require.True(t, ok, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{`"open`, `'open`, `"a"b`, `'a'b`} {
		_, ok := splitWords(in)
		require.False(t, ok, in)
	}
}

// A stock configuration file of Redis 7.0, as distributions ship it, is accepted as a whole.
func TestStockConfigurationFile(t *testing.T) {
	const stock = "/etc/redis/redis.conf"
	if _, err := os.Stat(stock); err != nil {
		t.Skip("no stock redis.conf is installed")
	}
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFile(stock))
	require.Equal(t, "everysec", cfg.Text("appendfsync"))
	require.Equal(t, []string{"127.0.0.1", "-::1"}, cfg.Words("bind"))
	require.True(t, cfg.Bool("daemonize"))
	require.Contains(t, cfg.Inert(), "appendonly")
}

func TestConfigFileErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), 0o644))
		return p
	}
	for text, reason := range map[string]string{
		"port 1\nfoo bar\n":      "Bad directive or wrong number of arguments",
		"\nport 1 2\n":           "wrong number of arguments",
		"# c\nport x\n":          "argument couldn't be parsed into an integer",
		"\nport 70000\n":         "argument must be between 0 and 65535 inclusive",
		"\nappendfsync maybe\n":  "argument(s) must be one of the following: everysec, always, no",
		"\nrequirepass \"open\n": "Unbalanced quotes in configuration line",
		"\nmaxmemory lots\n":     "argument must be a memory value",
		"\nuser bob on\n":        "users other than the default user are not supported; set requirepass",
	} {
		err := NewConfig().LoadFile(write("bad.conf", text))
		var ce *ConfigError
		require.ErrorAs(t, err, &ce, text)
		require.Equal(t, reason, ce.Reason, text)
		require.Equal(t, 2, ce.Line, text)
		require.Contains(t, err.Error(), "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n", text)
	}
	require.ErrorContains(t, NewConfig().LoadFile(filepath.Join(dir, "absent.conf")), "Fatal error, can't open config file")

	loop := filepath.Join(dir, "loop.conf")
	write("loop.conf", "include "+loop+"\n")
	require.ErrorContains(t, NewConfig().LoadFile(loop), "nested too deeply")
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.inc": "maxclients 11\nhz 20\n", "b.inc": "maxclients 12\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	main := filepath.Join(dir, "main.conf")
	require.NoError(t, os.WriteFile(main, []byte("maxclients 10\ninclude "+dir+"/*.inc\ninclude "+dir+"/none*.inc\nport 1234\n"), 0o644))
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFile(main))
	require.Equal(t, int64(12), cfg.Int("maxclients"), "files of a glob are read in order, later ones win")
	require.Equal(t, int64(20), cfg.Int("hz"))
	require.Equal(t, int64(1234), cfg.Int("port"))
}

func TestFlags(t *testing.T) {
	cfg := NewConfig()
	require.NoError(t, cfg.LoadFlags([]string{"--port", "6380", "--save", "", "--appendfsync", "everysec", "--bind", "127.0.0.1", "::1",
		"--client-output-buffer-limit", "normal", "1mb", "2mb", "3", "--maxmemory=1gb", "--save"}))
	require.Equal(t, int64(6380), cfg.Int("port"))
	require.Equal(t, "", cfg.Text("save"))
	require.Equal(t, []string{"127.0.0.1", "::1"}, cfg.Words("bind"))
	require.Equal(t, int64(1<<30), cfg.Int("maxmemory"))
	require.Equal(t, "normal 1048576 2097152 3 slave 268435456 67108864 60 pubsub 33554432 8388608 60", cfg.Text("client-output-buffer-limit"))
	for _, bad := range [][]string{{"port"}, {"--nosuch", "1"}, {"--port"}, {"--port", "x"}} {
		require.Error(t, NewConfig().LoadFlags(bad), bad)
	}
}

// CONFIG REWRITE writes what Redis writes for the same file and the same changes.
func TestRewriteLikeRedis(t *testing.T) {
	const before = "# head\n\nport PORT\nmaxclients 500\n# two of them: the last wins\nhz 10\nhz 20\n\n\n\n" +
		"slowlog-max-len 7\nclient-output-buffer-limit pubsub 1mb 2mb 3\nslave-priority 50\nhash-max-ziplist-entries 99\n# tail\n"
	changes := [][]string{{"maxclients", "600"}, {"slowlog-log-slower-than", "5"}, {"proto-max-bulk-len", "64mb"},
		{"requirepass", "se\"cret"}, {"notify-keyspace-events", "KEA"}, {"client-output-buffer-limit", "normal 10 20 30"},
		{"maxmemory-policy", "allkeys-lru"}, {"maxmemory", "1000000"}}
	dir := t.TempDir()
	theirs := filepath.Join(dir, "redis.conf")
	require.NoError(t, os.WriteFile(theirs, []byte(strings.ReplaceAll(before, "port PORT\n", "")), 0o644))
	addr := oracleWithFile(t, theirs)
	w := dial(t, addr)
	cfg := NewConfig()
	ours := filepath.Join(dir, "ours.conf")
	require.NoError(t, os.WriteFile(ours, []byte(strings.ReplaceAll(before, "port PORT\n", "")), 0o644))
	require.NoError(t, cfg.LoadFile(ours))
	for _, ch := range changes {
		require.Equal(t, "+OK\r\n", w.do("CONFIG", "SET", ch[0], ch[1]), ch)
		i := cfg.index(ch[0])
		words := []string{ch[1]}
		if cfg.table[i].kind == kindList {
			words = strings.Fields(ch[1])
		}
		require.NoError(t, cfg.load(ch[0], words))
	}
	require.Equal(t, "+OK\r\n", w.do("CONFIG", "REWRITE"))
	require.NoError(t, cfg.Rewrite())
	require.Equal(t, comparable(t, theirs), comparable(t, ours))

	again := NewConfig()
	require.NoError(t, again.LoadFile(ours))
	for i := range cfg.table {
		require.Equal(t, cfg.mu.vals[i], again.mu.vals[i], cfg.table[i].name)
	}
}

// comparable returns the lines of a configuration file, those behind the signature sorted (their order is each program's
// own) and without what only one of the two writes by nature of the test: paths, ports and the default of save.
func comparable(t *testing.T, path string) (lines []string) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	head, tail, _ := strings.Cut(string(b), rewriteSignature+"\n")
	lines = strings.Split(head, "\n")
	seen := map[string]bool{}
	for _, l := range strings.Split(tail, "\n") {
		name, _, _ := strings.Cut(l, " ")
		switch name {
		case "", "dir", "port", "save", "user", "latency-tracking-info-percentiles", "enable-protected-configs", "enable-debug-command":
			continue
		}
		seen[l] = true
	}
	for i := range directives {
		for l := range seen {
			if strings.HasPrefix(l, directives[i].name+" ") {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

func oracleWithFile(t *testing.T, file string) string {
	// redis-server takes the file as its first argument, before any flag.
	return oracleArgs(t, []string{file})
}

func TestDefaultsAreCanonical(t *testing.T) {
	cfg := NewConfig()
	for i := range cfg.table {
		d := &cfg.table[i]
		require.NotEmpty(t, d.help, d.name)
		words := []string{d.def}
		if d.kind == kindList && d.def != "" {
			words = strings.Fields(d.def)
		}
		v, err := d.value(words, d.def)
		require.NoError(t, err, d.name)
		require.Equal(t, d.def, v.text, d.name)
		for _, line := range d.render(v) {
			got, ok := splitWords(line)
			require.True(t, ok, line)
			require.NoError(t, NewConfig().loadWords(got), line)
		}
	}
}

// Every directive that Redis shows exists here, and has Redis's default unless the table says otherwise on purpose.
func TestDirectivesOfRedis(t *testing.T) {
	w := dial(t, oracle(t))
	w.do("CONFIG", "SET", "save", "3600 1 300 100 60 10000")
	reply := w.do("CONFIG", "GET", "*")
	parts := strings.Split(reply, "\r\n")
	different := map[string]bool{"dir": true, "port": true, "appendfsync": true, "appendonly": true,
		"enable-debug-command": true, "enable-protected-configs": true}
	cfg := NewConfig()
	n := 0
	for i := 1; i+3 < len(parts); i += 4 {
		name, value := parts[i+1], parts[i+3]
		idx, ok := cfg.byName[name]
		require.True(t, ok, "directive %s is missing", name)
		n++
		if !different[name] {
			require.Equal(t, value, cfg.mu.vals[idx].text, name)
		}
	}
	require.Greater(t, n, 180)
}

// Which directives may change while the server runs, and which of these only with enable-protected-configs, is as in Redis.
func TestDirectivesSetLikeRedis(t *testing.T) {
	theirs := dial(t, oracle(t, "--enable-protected-configs", "no"))
	ours := dial(t, holdfast(t, "--enable-protected-configs", "no").Addr())
	n := 0
	for i := range directives {
		d := &directives[i]
		if d.has(own) || d.has(hidden) {
			continue
		}
		value := func(w *wire) (string, bool) {
			parts := strings.Split(w.do("CONFIG", "GET", d.name), "\r\n")
			return parts[max(0, len(parts)-2)], len(parts) > 4
		}
		a, known := value(theirs)
		b, _ := value(ours)
		if !known {
			continue
		}
		n++
		want, got := theirs.do("CONFIG", "SET", d.name, a), ours.do("CONFIG", "SET", d.name, b)
		require.Equal(t, want, got, d.name)
	}
	require.Greater(t, n, 170)
}
