package bench

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryCountsChildren(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	p := &Process{cmd: &exec.Cmd{Process: self}}

	child := exec.Command("cat")
	in, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	pids, err := childrenOf(os.Getpid())
	require.NoError(t, err)
	require.Contains(t, pids, child.Process.Pid)
	own, err := proportional(os.Getpid())
	require.NoError(t, err)
	both, err := p.Memory()
	require.NoError(t, err)
	require.Greater(t, both, int64(0))
	theirs, err := proportional(child.Process.Pid)
	require.NoError(t, err)
	require.Greater(t, theirs, int64(0))
	require.InDelta(t, own+theirs, both, 32<<20)

	require.NoError(t, in.Close())
	require.NoError(t, child.Wait())
	pids, err = childrenOf(os.Getpid())
	require.NoError(t, err)
	require.NotContains(t, pids, child.Process.Pid)
	_, err = proportional(child.Process.Pid)
	require.True(t, gone(err), "%v", err)
}

// The most of a time is told once, and the present always.
func TestMemWatchCuts(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	require.NoError(t, err)
	p := &Process{cmd: &exec.Cmd{Process: self}}
	w := watchMemory(p)
	defer w.Stop()
	w.mu.Lock()
	w.mu.most = 1 << 50
	w.mu.Unlock()
	most, err := w.Cut(p)
	require.NoError(t, err)
	require.Equal(t, int64(1)<<50, most)
	most, err = w.Cut(p)
	require.NoError(t, err)
	require.Greater(t, most, int64(0))
	require.Less(t, most, int64(1)<<50)
}
