package main_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slurm is a cluster of one node, this machine, in a directory of its own and on
// loopback.
type slurm struct{ config string }

// The node has four processors, whatever the machine has, for as many tasks at once. By
// default what waits would be looked at once a minute, and 3 s after a submit.
const slurmConf = `ClusterName=bench
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=DIR/munge/socket
SlurmctldPort=26817
SlurmdPort=26818
SlurmctldPidFile=DIR/slurmctld.pid
SlurmdPidFile=DIR/slurmd.pid
StateSaveLocation=DIR/state
SlurmdSpoolDir=DIR/spool
SlurmctldLogFile=DIR/slurmctld.log
SlurmdLogFile=DIR/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MaxArraySize=10001
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4
PartitionName=all Nodes=localhost Default=YES
`

// startSlurm starts its daemons, as root, and waits until the node is idle.
func startSlurm(b *testing.B) *slurm {
	b.Helper()
	if os.Getuid() != 0 {
		b.Skip("needs root, for Slurm's daemons")
	}
	dir := b.TempDir()
	check(b, os.Chmod(dir, 0o755))
	for name, mode := range map[string]os.FileMode{"munge": 0o755, "state": 0o755, "spool": 0o755} {
		check(b, os.Mkdir(filepath.Join(dir, name), mode))
	}
	munge := func(name string) string { return filepath.Join(dir, "munge", name) }
	check(b, os.WriteFile(munge("key"), []byte(rand.Text()+rand.Text()), 0o600))
	s := &slurm{filepath.Join(dir, "slurm.conf")}
	check(b, os.WriteFile(s.config, []byte(strings.ReplaceAll(slurmConf, "DIR", dir)), 0o644))
	s.daemon(b, "munged", "--foreground", "--force", "--socket="+munge("socket"), "--key-file="+munge("key"),
		"--pid-file="+munge("pid"), "--log-file="+munge("log"), "--seed-file="+munge("seed"))
	for _, err := os.Stat(munge("socket")); err != nil; _, err = os.Stat(munge("socket")) {
		check(b, b.Context().Err())
		time.Sleep(10 * time.Millisecond)
	}
	s.daemon(b, "slurmctld", "-D", "-f", s.config)
	s.daemon(b, "slurmd", "-D", "-f", s.config, "-N", "localhost")
	// What of its tasks still runs would stay for ever without the daemons.
	b.Cleanup(func() {
		s.run(b, "scancel", "-u", "root")
		s.until(b, "", "squeue", "-h")
	})
	s.until(b, "idle", "sinfo", "-h", "-N", "-o", "%T")
	return s
}

// daemon starts one that ends with the benchmark.
func (s *slurm) daemon(b *testing.B, command ...string) {
	b.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	check(b, cmd.Start())
	b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

func (s *slurm) run(b *testing.B, command ...string) string {
	b.Helper()
	return run(b, []string{"SLURM_CONF=" + s.config}, "", command...)
}

// until waits until a command prints exactly this.
func (s *slurm) until(b *testing.B, want string, command ...string) {
	b.Helper()
	var out []byte
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "SLURM_CONF="+s.config)
		var err error
		if out, err = cmd.CombinedOutput(); err == nil && strings.TrimSpace(string(out)) == want {
			return
		}
	}
	b.Fatalf("%v does not print %q, but %s", command, want, out)
}

// BenchmarkSlurm measures tasks that do nothing: in one array, and one sbatch each.
func BenchmarkSlurm(b *testing.B) {
	s := startSlurm(b)
	b.Run("array", func(b *testing.B) {
		tasks := few(40)
		perSecond(b, tasks, func() {
			s.run(b, "sbatch", fmt.Sprintf("--array=1-%d", tasks), "-o", "/dev/null", "--wrap", "true")
			s.until(b, "", "squeue", "-h")
		})
	})
	b.Run("sbatch", func(b *testing.B) {
		tasks := few(40)
		perSecond(b, tasks, func() {
			for range tasks {
				s.run(b, "sbatch", "-o", "/dev/null", "--wrap", "true")
			}
		})
		s.until(b, "", "squeue", "-h")
	})
}
