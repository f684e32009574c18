package bench

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A pseudo-terminal gets the bar, as wide as it is.
func TestBarOnATerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	defer func() { require.NoError(t, master.Close()) }()
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 40}))

	p, out := newProgress(terminal)
	require.IsType(t, &bar{}, p)
	require.Same(t, p, out)
	p.Begin(3)
	p.Step("a step", time.Minute)
	p.End()
	// What was written arrives piece by piece; with the terminal's end closed, reading ends by EIO once all has come.
	require.NoError(t, terminal.Close())
	got, err := io.ReadAll(master)
	require.ErrorIs(t, err, unix.EIO)
	require.Contains(t, string(got), clearLine+"1/3  about 3:00 left  a step"+clearLine)
}
