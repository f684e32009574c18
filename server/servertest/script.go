package servertest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// script is a golden script: doc.go has its syntax.
type script struct {
	title string
	proto int // 0: both
	steps []step
}

// step is one command or verb of a script.
type step struct {
	line   int
	text   string
	verb   string // of our side only, if not empty
	conn   int    // 1, 2 …
	wait   bool   // read the reply that conn owes
	blocks bool   // the reply comes later
	args   []string
	rule   *Rule // nil: the command's own

	onlyHoldfast bool
	want         [4]string // expected bytes by protocol
}

func readScript(path string) (*script, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &script{}
	fail := func(line int, format string, a ...any) (*script, error) {
		return nil, fmt.Errorf("%s:%d: %s", path, line, fmt.Sprintf(format, a...))
	}
	var next step // what directives have said of the next command
	for i, text := range strings.Split(string(data), "\n") {
		no := i + 1
		text = strings.TrimRight(text, " \t\r")
		switch {
		case no == 1:
			title, ok := strings.CutPrefix(text, "# ")
			if !ok {
				return fail(no, "the first line says what the script shows")
			}
			s.title = title
		case strings.HasPrefix(text, "#!"):
			word, arg, _ := strings.Cut(strings.TrimSpace(text[2:]), " ")
			switch word {
			case "proto":
				if s.proto, err = strconv.Atoi(arg); err != nil || s.proto != 2 && s.proto != 3 {
					return fail(no, "protocol %q", arg)
				}
			case "unordered":
				next.rule = &Rule{kind: ruleMultiset}
				if arg == "pairs" {
					next.rule.kind = rulePairs
				}
			case "random":
				r, err := ParseRule(arg)
				if err != nil {
					return fail(no, "%v", err)
				}
				next.rule = &r
			case "blocks":
				next.blocks = true
			case "only-holdfast":
				next.onlyHoldfast = true
			case "holdfast":
				s.steps = append(s.steps, step{line: no, text: text, verb: arg})
			default:
				return fail(no, "unknown directive %q", word)
			}
		case text == "" || strings.HasPrefix(text, "# ") || text == "#":
		case strings.HasPrefix(text, "> "), strings.HasPrefix(text, "2> "), strings.HasPrefix(text, "3> "):
			if len(s.steps) == 0 || !s.steps[len(s.steps)-1].onlyHoldfast {
				return fail(no, "an expected reply without only-holdfast")
			}
			st := &s.steps[len(s.steps)-1]
			_, reply, _ := strings.Cut(text, "> ")
			for p := 2; p <= 3; p++ {
				if text[0] == '>' || int(text[0]-'0') == p {
					st.want[p] += reply + "\r\n"
				}
			}
		default:
			st := next
			next = step{}
			st.line, st.text, st.conn = no, text, 1
			if text[0] == '@' {
				who, rest, _ := strings.Cut(text[1:], " ")
				if st.conn, err = strconv.Atoi(who); err != nil || st.conn < 1 || st.conn > 9 {
					return fail(no, "connection %q", who)
				}
				text = rest
			}
			if st.wait = text == "wait"; !st.wait {
				if st.args, err = splitLine(text); err != nil {
					return fail(no, "%v", err)
				}
			}
			s.steps = append(s.steps, st)
		}
	}
	return s, nil
}

// splitLine cuts a line into arguments with the quoting of redis-cli: "…" with \n \r \t \b \a \\ \" \xHH, '…' with \'.
func splitLine(line string) (args []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" {
			return args, nil
		}
		var arg []byte
		if line[0] == '"' || line[0] == '\'' {
			if arg, line, err = quoted(line); err != nil {
				return nil, err
			}
			if line != "" && line[0] != ' ' && line[0] != '\t' {
				return nil, fmt.Errorf("text directly after a closing quote: %s", line)
			}
		} else {
			end := strings.IndexAny(line, " \t")
			if end < 0 {
				end = len(line)
			}
			arg, line = []byte(line[:end]), line[end:]
		}
		args = append(args, string(arg))
	}
}

func quoted(line string) (arg []byte, rest string, err error) {
	quote := line[0]
	for i := 1; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			return arg, line[i+1:], nil
		case c == '\\' && quote == '\'' && strings.HasPrefix(line[i+1:], "'"):
			i++
			arg = append(arg, '\'')
		case c == '\\' && quote == '"' && i+1 < len(line):
			i++
			if line[i] == 'x' && i+2 < len(line) {
				if b, err := strconv.ParseUint(line[i+1:i+3], 16, 8); err == nil {
					arg = append(arg, byte(b))
					i += 2
					continue
				}
			}
			if at := strings.IndexByte("nrtba", line[i]); at >= 0 {
				arg = append(arg, "\n\r\t\b\a"[at])
			} else {
				arg = append(arg, line[i])
			}
		default:
			arg = append(arg, c)
		}
	}
	return nil, "", fmt.Errorf("unbalanced quotes")
}
