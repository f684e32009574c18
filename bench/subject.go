package bench

import (
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// addServer reads a value of -server.
func (e *env) addServer(text string) error {
	name, command, ok := strings.Cut(text, "=")
	switch k := Kind(name); {
	case !ok || name == "" || strings.TrimSpace(command) == "":
		return errors.New("want NAME=COMMAND")
	case k == result.NullServer || strings.ContainsAny(name, ",:/= "):
		return fmt.Errorf("%q cannot be the name of a server", name)
	case e.commands[k] != "":
		return fmt.Errorf("two servers are named %q", name)
	case !strings.Contains(command, "{port}"):
		return fmt.Errorf("the command of %q does not say where {port} goes", name)
	}
	if e.commands == nil {
		e.commands = map[Kind]string{}
	}
	e.commands[Kind(name)] = command
	e.named = append(e.named, Kind(name))
	return nil
}

// choose finds the servers and pairs that are measured. Those that -server has named take part without being listed. Where
// redis-server is not installed and nobody has asked for it, it is left out.
func (e *env) choose(fs *flag.FlagSet, servers, pairs string) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	asked := given["servers"] || given["pairs"]
	without := Kind("")
	if _, err := exec.LookPath("redis-server"); err != nil && !asked && e.commands[Redis] == "" {
		without = Redis
		e.results.note("redis-server is not installed here, so that there is nothing to compare with.")
	}
	for _, s := range list(servers) {
		k := Kind(s)
		if k != Redis && k != Holdfast && e.commands[k] == "" {
			return fmt.Errorf("unknown server %q; there are redis and holdfast, and what -server names", s)
		}
		if k != without && !slices.Contains(e.servers, k) {
			e.servers = append(e.servers, k)
		}
	}
	if pairs != "" {
		var err error
		if e.pairs, err = e.parsePairs(pairs); err != nil {
			return err
		}
		e.pairs = slices.DeleteFunc(e.pairs, func(p pair) bool { return without != "" && (p.primary == without || p.replica == without) })
	}
	for _, k := range e.named {
		if !asked && !slices.Contains(e.servers, k) {
			e.servers = append(e.servers, k)
		}
		if pairs != "" && !given["pairs"] {
			e.pairs = append(e.pairs, pair{k, k})
		}
	}
	if given["servers"] && !given["pairs"] {
		// Who names the servers does not want others in pairs.
		e.pairs = slices.DeleteFunc(e.pairs, func(p pair) bool {
			return !slices.Contains(e.servers, p.primary) || !slices.Contains(e.servers, p.replica)
		})
	}
	return nil
}

// known finds what a server is and holds that it is what it was started as.
func (e *env) known(p *Process) error {
	info, err := p.Info()
	if err != nil {
		return err
	}
	kind, version := "unknown", ""
	for _, k := range []string{result.NullServer, "holdfast", "valkey", "kvrocks", "dragonfly", "garnet", "redis"} {
		if v, ok := info[k+"_version"]; ok {
			kind, version = k, v
			break
		}
	}
	if s := info["server_name"]; kind == "redis" && s != "" {
		kind = s
	}
	want := p.Spec.Kind
	if p.Spec.Command == "" && kind != string(want) {
		return fmt.Errorf("what was started as %s says that it is %s %s", want, kind, version)
	}
	command := p.Spec.Command
	if command == "" {
		bin, args, err := commandLine(Spec{Kind: want, Binary: p.Spec.Binary, Dir: "{dir}", Args: p.Spec.Args}, "{port}")
		if err != nil {
			return err
		}
		switch want {
		case result.NullServer:
			bin = "holdfast"
		case Holdfast:
			bin, version = "holdfast", version+" "+revision()
		}
		command = strings.Join(append([]string{bin}, args...), " ")
	}
	e.results.subject(result.Subject{Name: string(want), Kind: kind, Version: version, Command: command})
	return nil
}
