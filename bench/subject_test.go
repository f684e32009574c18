package bench

import (
	"context"
	"flag"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddServer(t *testing.T) {
	e := &env{}
	require.NoError(t, e.addServer("valkey=valkey-server --port {port} --dir {dir}"))
	for _, text := range []string{"", "x", "=c {port}", "x=", "x=c", "a:b=c {port}", "a,b=c {port}", "null=c {port}", "valkey=other {port}"} {
		require.Error(t, e.addServer(text), text)
	}
	require.Equal(t, map[Kind]string{"valkey": "valkey-server --port {port} --dir {dir}"}, e.commands)
}

func TestChoose(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	for _, c := range []struct {
		args           []string
		servers, pairs string
		wantServers    []Kind
		wantPairs      []pair
		wantErr        string
	}{
		{servers: "redis,holdfast", wantServers: []Kind{Redis, Holdfast}},
		{args: []string{"-server", "v=v {port}"}, servers: "redis", wantServers: []Kind{Redis, "v"}},
		{args: []string{"-server", "v=v {port}", "-servers", "v,redis"}, servers: "v,redis", wantServers: []Kind{"v", Redis}},
		{args: []string{"-server", "v=v {port}"}, pairs: "redis:holdfast", wantServers: []Kind{"v"}, wantPairs: []pair{{Redis, Holdfast}, {"v", "v"}}},
		{args: []string{"-server", "v=v {port}", "-pairs", "holdfast:v"}, pairs: "holdfast:v", wantPairs: []pair{{Holdfast, "v"}}},
		{args: []string{"-server", "v=v {port}", "-servers", "v"}, servers: "v", pairs: "redis:redis,holdfast:redis", wantServers: []Kind{"v"}, wantPairs: []pair{{"v", "v"}}},
		{args: []string{"-servers", "holdfast"}, servers: "holdfast", pairs: "redis:redis,holdfast:holdfast", wantServers: []Kind{Holdfast}, wantPairs: []pair{{Holdfast, Holdfast}}},
		{servers: "redis,valkey", wantErr: `unknown server "valkey"`},
		{pairs: "redis", wantErr: `pair "redis"`},
		{pairs: "redis:valkey", wantErr: `pair "redis:valkey"`},
		{pairs: ",", wantErr: "no pairs"},
	} {
		e := &env{results: newCollector(nil, nil)}
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		fs.Func("server", "", e.addServer)
		fs.String("servers", "", "")
		fs.String("pairs", "", "")
		require.NoError(t, fs.Parse(c.args))
		err := e.choose(fs, c.servers, c.pairs)
		if c.wantErr != "" {
			require.ErrorContains(t, err, c.wantErr)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.wantServers, e.servers)
		require.Equal(t, c.wantPairs, e.pairs)
	}
}

// A command of the operator's own gets its port, its directory and the signals that are meant for it; and what a server says of itself is
// noted.
func TestNamedServer(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	e := &env{results: newCollector(nil, nil)}
	require.NoError(t, e.addServer("mine=redis-server --bind 127.0.0.1 --port {port} --dir {dir} --appendonly yes --appendfsync {policy} --save ''"))
	p, err := Start(context.Background(), e.spec("mine", t.TempDir(), policyArgs("mine", "no")...))
	require.NoError(t, err)
	defer p.Kill()
	require.NoError(t, e.known(p))
	require.Len(t, e.results.run.Subjects, 1)
	s := e.results.run.Subjects[0]
	require.Equal(t, "mine", s.Name)
	require.Equal(t, "redis", s.Kind)
	require.NotEmpty(t, s.Version)
	c, err := Dial(p.Addr)
	require.NoError(t, err)
	defer c.Close()
	r, err := c.Do("CONFIG", "GET", "appendfsync")
	require.NoError(t, err)
	require.Equal(t, "[appendfsync no]", r.String())
	require.NoError(t, p.Stop())
}
