package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// This file parses and renders the directives whose value is a list of words.

// savePoint is one "after seconds, if at least changes writes happened".
type savePoint struct{ seconds, changes int64 }

// parseSave parses "seconds changes …" or "" (none).
func parseSave(words []string, old string) (string, error) {
	bad := errors.New("Invalid save parameters")
	if len(words) == 1 && words[0] == "" {
		return "", nil
	}
	if len(words) == 0 || len(words)%2 != 0 {
		return "", bad
	}
	var out []string
	for i := 0; i < len(words); i += 2 {
		sec, err1 := strconv.ParseInt(words[i], 10, 64)
		chg, err2 := strconv.ParseInt(words[i+1], 10, 64)
		if err1 != nil || err2 != nil || sec < 1 || chg < 0 {
			return "", bad
		}
		out = append(out, strconv.FormatInt(sec, 10), strconv.FormatInt(chg, 10))
	}
	return strings.Join(out, " "), nil
}

// savePoints parses the canonical text of save.
func savePoints(text string) []savePoint {
	words := strings.Fields(text)
	var out []savePoint
	for i := 0; i+1 < len(words); i += 2 {
		sec, err1 := strconv.ParseInt(words[i], 10, 64)
		chg, err2 := strconv.ParseInt(words[i+1], 10, 64)
		if err1 == nil && err2 == nil {
			out = append(out, savePoint{sec, chg})
		}
	}
	return out
}

func saveLines(name, text string) []string {
	points := savePoints(text)
	if len(points) == 0 {
		return []string{name + ` ""`}
	}
	var out []string
	for _, p := range points {
		out = append(out, fmt.Sprintf("%s %d %d", name, p.seconds, p.changes))
	}
	return out
}

// bufferClasses are the classes of client-output-buffer-limit, in the order that CONFIG GET shows.
var bufferClasses = [...]string{"normal", "slave", "pubsub"}

// bufferLimit is the output buffer limit of one class of clients; 0 = no limit.
type bufferLimit struct{ hard, soft, softSeconds int64 }

// bufferLimits parses the canonical text of client-output-buffer-limit.
func bufferLimits(text string) (out [len(bufferClasses)]bufferLimit) {
	words := strings.Fields(text)
	for i := 0; i+3 < len(words); i += 4 {
		for c, name := range bufferClasses {
			if words[i] == name {
				for k, p := range []*int64{&out[c].hard, &out[c].soft, &out[c].softSeconds} {
					*p, _ = strconv.ParseInt(words[i+1+k], 10, 64) // canonical text: parsed when it was set
				}
			}
		}
	}
	return out
}

func bufferLimitsText(l [len(bufferClasses)]bufferLimit) string {
	var out []string
	for i, name := range bufferClasses {
		out = append(out, fmt.Sprintf("%s %d %d %d", name, l[i].hard, l[i].soft, l[i].softSeconds))
	}
	return strings.Join(out, " ")
}

// parseBufferLimits parses "class hard soft seconds …"; classes not named keep their limits.
func parseBufferLimits(words []string, old string) (string, error) {
	if len(words) == 0 || len(words)%4 != 0 {
		return "", errors.New("Wrong number of arguments in buffer limit configuration.")
	}
	limits := bufferLimits(old)
	for i := 0; i < len(words); i += 4 {
		class := -1
		for c, name := range bufferClasses {
			if strings.EqualFold(words[i], name) || c == 1 && strings.EqualFold(words[i], "replica") {
				class = c
			}
		}
		if class < 0 {
			return "", errors.New("Invalid client class specified in buffer limit configuration.")
		}
		hard, ok1 := parseMemory(words[i+1])
		soft, ok2 := parseMemory(words[i+2])
		sec, err := strconv.ParseInt(words[i+3], 10, 64)
		if !ok1 || !ok2 || err != nil || sec < 0 {
			return "", errors.New("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
		}
		limits[class] = bufferLimit{hard, soft, sec}
	}
	return bufferLimitsText(limits), nil
}

func bufferLimitLines(name, text string) []string {
	var out []string
	for i, l := range bufferLimits(text) {
		class := bufferClasses[i]
		if class == "slave" {
			class = "replica"
		}
		out = append(out, fmt.Sprintf("%s %s %s %s %d", name, class, formatMemory(l.hard), formatMemory(l.soft), l.softSeconds))
	}
	return out
}

// maxBindAddresses is Redis's CONFIG_BINDADDR_MAX.
const maxBindAddresses = 16

// parseBind parses addresses to listen on: "*" for all of IPv4, "-" before one that may be missing, "" for none.
func parseBind(words []string, _ string) (string, error) {
	if len(words) > maxBindAddresses {
		return "", errors.New("Too many bind addresses specified.")
	}
	if len(words) == 1 && words[0] == "" {
		return "", nil
	}
	return strings.Join(words, " "), nil
}

func plainLine(name, text string) []string {
	if text == "" {
		return []string{name + ` ""`}
	}
	return []string{name + " " + text}
}

// parseReplicaOf parses "host port", or "no one" and "" for none.
func parseReplicaOf(words []string, _ string) (string, error) {
	if len(words) == 1 && words[0] == "" {
		return "", nil
	}
	if len(words) != 2 {
		return "", errWrongArgCount
	}
	if strings.EqualFold(words[0], "no") && strings.EqualFold(words[1], "one") {
		return "", nil
	}
	port, err := strconv.Atoi(words[1])
	if err != nil || port < 0 || port > 65535 {
		return "", errors.New("Invalid master port")
	}
	return words[0] + " " + words[1], nil
}

// parseOOMValues parses the three values of oom-score-adj-values.
func parseOOMValues(words []string, _ string) (string, error) {
	if len(words) != 3 {
		return "", errWrongArgCount
	}
	for _, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil || n < -2000 || n > 2000 {
			return "", errors.New("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
		}
	}
	return strings.Join(words, " "), nil
}

// parsePercentiles parses the percentiles of INFO latencystats.
func parsePercentiles(words []string, _ string) (string, error) {
	if len(words) == 1 && words[0] == "" {
		return "", nil
	}
	var out []string
	for _, w := range words {
		p, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return "", errors.New("Invalid latency-tracking-info-percentiles parameters")
		}
		if !(p >= 0 && p <= 100) {
			return "", errors.New("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
		}
		out = append(out, strconv.FormatFloat(p, 'g', -1, 64))
	}
	return strings.Join(out, " "), nil
}

// percentiles returns the numbers of the canonical text.
func percentiles(text string) []float64 {
	var out []float64
	for _, w := range strings.Fields(text) {
		if p, err := strconv.ParseFloat(w, 64); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// parseHostname checks cluster-announce-hostname.
func parseHostname(words []string, _ string) (string, error) {
	for _, ch := range words[0] {
		if !(ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || ch == '-' || ch == '.') {
			return "", errors.New("Hostnames may only contain alphanumeric characters, hyphens or dots")
		}
	}
	return words[0], nil
}

// parseFileName refuses a path where a name is wanted.
func parseFileName(what string) func([]string, string) (string, error) {
	return func(words []string, _ string) (string, error) {
		if strings.ContainsRune(words[0], filepath.Separator) {
			return "", errors.New(what + " can't be a path, just a filename")
		}
		return words[0], nil
	}
}

// parseNoDefrag answers activedefrag, which needs an allocator that this process does not have.
func parseNoDefrag(words []string, _ string) (string, error) {
	if strings.EqualFold(words[0], "yes") {
		return "", errors.New("Active defragmentation cannot be enabled: it requires a Redis server compiled with a " +
			"modified Jemalloc like the one shipped by default with the Redis source distribution")
	}
	return words[0], nil
}

// checkDir tells whether path can be the data directory: a directory, or absent with a parent that exists.
func checkDir(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // created at start
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return &os.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
	}
	return nil
}
