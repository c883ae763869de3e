// Command cloud-simulator is a simulated cloud with one group of instances, which are containers of this
// machine's Docker Engine. It speaks the cloud's own protocol on a loopback address, so that a fleeting plugin, the
// cloud's SDK and the runner work on it as on the real one.
//
//	cloud-simulator aws --group my-docker-asg
//
// It prints its address as one line of JSON, lets faults be injected at /_faults, and ends, with its machines, on
// SIGTERM and SIGINT.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

// endLimit bounds the removal of the machines.
const endLimit = time.Minute

// cloud is one of the simulated clouds.
type cloud struct {
	// flags are those of its own.
	flags func(*flag.FlagSet)
	// open makes the cloud, at an address such as "http://127.0.0.1:1234", with a group of a name.
	open func(set *machines.Set, group, address string, size int) (http.Handler, error)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cloud-simulator:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	clouds := map[string]cloud{
		"aws": awsCloud(), "azure": azureCloud(), "googlecloud": googleCloud(), "machines": machinesCloud(),
	}
	var names []string
	for name := range clouds {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(args) == 0 {
		return fmt.Errorf("name a cloud: %s", strings.Join(names, ", "))
	}
	chosen, known := clouds[args[0]]
	if !known {
		return fmt.Errorf("there is no cloud %q: it is one of %s", args[0], strings.Join(names, ", "))
	}
	flags := flag.NewFlagSet("cloud-simulator "+args[0], flag.ContinueOnError)
	var images list
	group := flags.String("group", "my-group", "`NAME` of the group of instances")
	prefix := flags.String("machines", "", "beginning of the `NAME` of each container; empty: the group's name")
	size := flags.Int("max-size", 10, "the largest `NUMBER` of instances")
	delay := flags.String("boot-delay", "", "how long an instance takes before it boots, such as 5s")
	engine := flags.String("engine-config", "", "the daemon.json of the instances' engines, as `JSON`")
	flags.Var(&images, "image", "`IMAGE` that each instance starts with; may be given more than once")
	chosen.flags(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if *prefix == "" {
		*prefix = *group
	}

	log := hclog.New(&hclog.LoggerOptions{Name: "cloud-simulator", Output: os.Stderr})
	set, err := machines.New(ctx, machines.Options{
		Name: *prefix, Images: images, MaxSize: 2 * *size, BootDelay: *delay,
		EngineConfig: json.RawMessage(*engine), Log: log,
	})
	if err != nil {
		return err
	}
	err = serve(ctx, func(address string) (http.Handler, error) {
		return chosen.open(set, *group, address, *size)
	})
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	return errors.Join(err, set.Close(ending, true))
}

// serve listens until the context ends.
func serve(ctx context.Context, open func(address string) (http.Handler, error)) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := "http://" + listener.Addr().String()
	handler, err := open(address)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"address": address}); err != nil {
		return errors.Join(err, server.Close())
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	err = server.Close()
	<-ended
	return err
}

// list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
