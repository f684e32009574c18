package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// model is what a client that shares its keys with nobody expects to find: a dumb Redis of the commands that the kill cycles
// send. Its values are string, []string (list), map[string]string (hash, set with empty values) and map[string]int64
// (sorted set).
type model map[string]any

// do executes a command and returns the reply as Reply.String renders it. Only commands of newOp are known.
func (m model) do(args []string) string {
	key := args[1]
	switch args[0] {
	case "GET":
		if s, ok := m[key].(string); ok {
			return s
		}
		return "(nil)"
	case "SET":
		m[key] = args[2]
		return "OK"
	case "APPEND":
		s, _ := m[key].(string)
		m[key] = s + args[2]
		return strconv.Itoa(len(s) + len(args[2]))
	case "INCRBY":
		s, _ := m[key].(string)
		n := atoi(s) + atoi(args[2])
		m[key] = strconv.FormatInt(n, 10)
		return strconv.FormatInt(n, 10)
	case "DEL":
		_, ok := m[key]
		delete(m, key)
		return count(ok)
	case "LPUSH":
		l, _ := m[key].([]string)
		m[key] = slices.Insert(slices.Clone(l), 0, args[2])
		return strconv.Itoa(len(l) + 1)
	case "RPUSH":
		l, _ := m[key].([]string)
		m[key] = append(slices.Clip(l), args[2])
		return strconv.Itoa(len(l) + 1)
	case "LPOP", "RPOP":
		l, _ := m[key].([]string)
		if len(l) == 0 {
			return "(nil)"
		}
		at := 0
		if args[0] == "RPOP" {
			at = len(l) - 1
		}
		v := l[at]
		if m[key] = slices.Delete(slices.Clone(l), at, at+1); len(l) == 1 {
			delete(m, key)
		}
		return v
	case "HSET":
		return m.put(key, args[2], args[3])
	case "SADD":
		return m.put(key, args[2], "")
	case "HDEL", "SREM":
		h, _ := m[key].(map[string]string)
		_, ok := h[args[2]]
		if delete(h, args[2]); ok && len(h) == 0 {
			delete(m, key)
		}
		return count(ok)
	case "ZADD":
		z, _ := m[key].(map[string]int64)
		if z == nil {
			z = map[string]int64{}
			m[key] = z
		}
		_, ok := z[args[3]]
		z[args[3]] = atoi(args[2])
		return count(!ok)
	case "ZREM":
		z, _ := m[key].(map[string]int64)
		_, ok := z[args[2]]
		if delete(z, args[2]); ok && len(z) == 0 {
			delete(m, key)
		}
		return count(ok)
	}
	panic("the model does not know " + args[0])
}

// put sets a field and returns HSET's reply.
func (m model) put(key, field, value string) string {
	h, _ := m[key].(map[string]string)
	if h == nil {
		h = map[string]string{}
		m[key] = h
	}
	_, ok := h[field]
	h[field] = value
	return count(!ok)
}

func count(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// atoi reads numbers that this package has written; an absent counter is 0.
func atoi(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("the model met a number that it did not write: " + s)
	}
	return n
}

// render is the canonical form of a key's value, as the server's is rendered by renderReply.
func (m model) render(key string) string {
	switch v := m[key].(type) {
	case nil:
		return ""
	case string:
		return v
	case []string:
		return strings.Join(v, " ")
	case map[string]string:
		pairs := make([]string, 0, len(v))
		for f, x := range v {
			if key[0] == 't' {
				pairs = append(pairs, f)
			} else {
				pairs = append(pairs, f+"="+x)
			}
		}
		slices.Sort(pairs)
		return strings.Join(pairs, " ")
	case map[string]int64:
		pairs := make([]string, 0, len(v))
		for f, x := range v {
			pairs = append(pairs, f+"="+strconv.FormatInt(x, 10))
		}
		slices.Sort(pairs)
		return strings.Join(pairs, " ")
	}
	panic(fmt.Sprintf("the model has a %T", m[key]))
}

// readCommand is how the whole value of a key is asked for; the first letter of a key says its type.
func readCommand(key string) []string {
	switch key[0] {
	case 's', 'n':
		return []string{"GET", key}
	case 'l':
		return []string{"LRANGE", key, "0", "-1"}
	case 'h':
		return []string{"HGETALL", key}
	case 't':
		return []string{"SMEMBERS", key}
	case 'z':
		return []string{"ZRANGE", key, "0", "-1", "WITHSCORES"}
	}
	panic("no type for key " + key)
}

// renderReply is the canonical form of the reply to readCommand.
func renderReply(key string, r Reply) (string, error) {
	switch {
	case r.Kind == '-':
		return "", fmt.Errorf("%s answered %s", strings.Join(readCommand(key), " "), r)
	case r.Null:
		return "", nil
	case r.Kind != '*':
		return r.String(), nil
	}
	parts := make([]string, 0, len(r.Elems))
	switch key[0] {
	case 'h', 'z':
		if len(r.Elems)%2 != 0 {
			return "", fmt.Errorf("%s answered %d elements", strings.Join(readCommand(key), " "), len(r.Elems))
		}
		for i := 0; i < len(r.Elems); i += 2 {
			parts = append(parts, r.Elems[i].String()+"="+r.Elems[i+1].String())
		}
		slices.Sort(parts)
	default:
		for _, e := range r.Elems {
			parts = append(parts, e.String())
		}
		if key[0] == 't' {
			slices.Sort(parts)
		}
	}
	return strings.Join(parts, " "), nil
}

// differences names keys whose value in the model is not what the server has, up to a few of them.
func (m model) differences(actual map[string]string) []string {
	var diff []string
	keys := slices.Sorted(maps.Keys(actual))
	for _, k := range keys {
		if want := m.render(k); want != actual[k] {
			diff = append(diff, fmt.Sprintf("%s is %s, expected %s", k, shorten(actual[k]), shorten(want)))
			if len(diff) == 5 {
				break
			}
		}
	}
	return diff
}

func shorten(s string) string {
	const limit = 80
	if s == "" {
		return "absent"
	}
	if len(s) > limit {
		return fmt.Sprintf("%q… (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// clone returns a model that shares nothing with m.
func (m model) clone() model {
	out := make(model, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case []string:
			out[k] = slices.Clone(v)
		case map[string]string:
			out[k] = maps.Clone(v)
		case map[string]int64:
			out[k] = maps.Clone(v)
		case string:
			out[k] = v
		default:
			panic(fmt.Sprintf("bench: a model holds a %T", v))
		}
	}
	return out
}

// reach applies ops until m shows what was found, and returns how many it took. found is false if none of the states does; first
// is then how the state before all ops differs.
func (m model) reach(actual map[string]string, ops []op) (applied int, found bool, first []string) {
	first = m.differences(actual)
	wrong := map[string]bool{}
	for k := range actual {
		if m.render(k) != actual[k] {
			wrong[k] = true
		}
	}
	for len(wrong) > 0 && applied < len(ops) {
		o := ops[applied]
		o.applyTo(m)
		applied++
		if o.shared {
			continue
		}
		for _, c := range o.commands {
			if k := c[1]; m.render(k) != actual[k] {
				wrong[k] = true
			} else {
				delete(wrong, k)
			}
		}
	}
	return applied, len(wrong) == 0, first
}
