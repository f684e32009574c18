package bench

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// screen is what a terminal shows of bytes: its lines, where clearLine empties the last.
func screen(b []byte) []string {
	out := []string{""}
	for text := string(b); text != ""; {
		switch {
		case strings.HasPrefix(text, clearLine):
			out[len(out)-1] = ""
			text = text[len(clearLine):]
		case text[0] == '\n':
			out = append(out, "")
			text = text[1:]
		default:
			out[len(out)-1] += text[:1]
			text = text[1:]
		}
	}
	return out
}

func TestBarStaysBelowWhatIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		b := newBar(&out, func() int { return 80 }, time.Now)
		b.Begin(2)
		b.Step("redis, set", 10*time.Second)
		last := func() string { s := screen(out.Bytes()); return s[len(s)-1] }
		require.Equal(t, "["+strings.Repeat(" ", 24)+"] 1/2  about 0:20 left  redis, set", last())
		b.Printf("a line\n")
		_, err := io.WriteString(b, "| half")
		require.NoError(t, err)
		require.Equal(t, "| half", last(), "a line in pieces is not cut by the bar")
		time.Sleep(3 * time.Second) // of the bubble's clock
		synctest.Wait()
		require.Equal(t, "| half", last())
		_, err = io.WriteString(b, " a row |\n")
		require.NoError(t, err)
		require.Equal(t, []string{"a line", "| half a row |", "[====" + strings.Repeat(" ", 20) + "] 1/2  about 0:17 left  redis, set"}, screen(out.Bytes()))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Contains(t, last(), "about 0:12 left", "it counts down by itself")
		b.End()
		require.Equal(t, []string{"a line", "| half a row |", ""}, screen(out.Bytes()))
		b.End()
		b.Printf("after\n")
		require.Equal(t, []string{"a line", "| half a row |", "after", ""}, screen(out.Bytes()))
	})
}

func TestTimeLeft(t *testing.T) {
	at := time.Unix(0, 0)
	var r remaining
	r.steps = 4
	_, known := r.left(at)
	require.False(t, known)
	r.begin(at, 0)
	_, known = r.left(at)
	require.False(t, known, "the first step has no estimate")
	at = at.Add(10 * time.Second)
	r.begin(at, 5*time.Second)
	left, known := r.left(at)
	require.True(t, known)
	require.Equal(t, 25*time.Second, left, "its own estimate, and two steps as long as the one that has ended")
	at = at.Add(20 * time.Second) // four times the estimate
	r.begin(at, 5*time.Second)
	left, _ = r.left(at)
	require.Equal(t, 35*time.Second, left, "the estimate times four, and a step of the mean of both")
	left, _ = r.left(at.Add(time.Minute))
	require.Equal(t, 15*time.Second, left, "a step that is overdue ends at once")
	require.InDelta(t, 30.0/65, r.done(at), 1e-9)
}

func TestBarFitsItsTerminal(t *testing.T) {
	r := remaining{steps: 3}
	r.begin(time.Unix(0, 0), 90*time.Minute)
	for columns := -1; columns < 120; columns++ {
		require.LessOrEqual(t, len([]rune(r.render("größe, a long label of a step that goes on and on and on", time.Unix(5, 0), columns))), max(columns, 0))
	}
	require.Contains(t, r.render("x", time.Unix(0, 0), 80), "about 4:30:00 left")
}

func TestPlainLinesWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	p, w := newProgress(&out)
	require.IsType(t, &lines{}, p)
	require.Same(t, &out, w)
	f, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	p, _ = newProgress(f)
	require.IsType(t, &lines{}, p)
	require.NoError(t, f.Close())
	p, _ = newProgress(&out)
	p.Begin(1)
	p.Step("one", 0)
	p.Printf("%d\n", 2)
	p.End()
	require.Equal(t, "[1/1    0s] one\n2\n", out.String())
}
