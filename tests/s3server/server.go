package s3server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	// VirtualDomain is the domain below which every bucket also has a name of its own. No resolver
	// knows it.
	VirtualDomain = "s3.test"

	region        = "us-east-1"
	defaultBucket = "runner-cache"

	startTimeout = 30 * time.Second
	startPoll    = 20 * time.Millisecond
	stopTimeout  = 10 * time.Second
)

// Server is a running server. Its fields do not change; its methods are safe for concurrent use.
type Server struct {
	// Address is host:port, where it speaks plain HTTP.
	Address string
	// AccessKey and SecretKey belong to the owner of all buckets, who may do everything.
	AccessKey, SecretKey string
	Region               string
	// Bucket exists from the start.
	Bucket string

	log    string
	cmd    *exec.Cmd
	client *s3.Client
	// exited is closed when the process has ended.
	exited chan struct{}
}

// Start starts a server that keeps everything in dir, which may have been another's before, and listens
// on addr. A port of 0 is replaced by a free one. If addr has no host, or 0.0.0.0, the server can be
// reached at every address of this machine, and Address has the one for itself. Start returns when the
// server answers. Close it.
func Start(dir, addr string) (*Server, error) {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	defer stop()
	program, err := Install(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	host, port, err := free(addr)
	if err != nil {
		return nil, fmt.Errorf("finding an address for the S3 server: %w", err)
	}
	s := &Server{
		Address:   net.JoinHostPort(host, port),
		AccessKey: rand.Text(),
		SecretKey: rand.Text(),
		Region:    region,
		Bucket:    defaultBucket,
		log:       filepath.Join(dir, "server.log"),
		exited:    make(chan struct{}),
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		s.Address = net.JoinHostPort("127.0.0.1", port)
	}
	if err := s.run(program, dir, net.JoinHostPort(host, port)); err != nil {
		return nil, fmt.Errorf("starting the S3 server: %w", err)
	}
	s.client = s3.New(s3.Options{
		Region:       region,
		BaseEndpoint: aws.String("http://" + s.Address),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// free returns the host and the port of addr, where nothing listens now.
func free(addr string) (host, port string, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", "", err
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return "", "", err
	}
	host, _, err = net.SplitHostPort(addr)
	return host, port, err
}

func (s *Server) run(program, dir, listen string) error {
	objects, metadata := filepath.Join(dir, "objects"), filepath.Join(dir, "metadata")
	for _, d := range []string{objects, metadata} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// File systems without extended attributes do: the metadata has a directory of its own.
	s.cmd = exec.Command(program, "--port", listen, "--region", region, "--virtual-domain", VirtualDomain, "--quiet",
		"posix", "--sidecar", metadata, objects)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.AccessKey, "ROOT_SECRET_ACCESS_KEY="+s.SecretKey)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait()
	}()
	return nil
}

// ready waits until the server answers and has its bucket.
func (s *Server) ready(ctx context.Context) error {
	ctx, stop := context.WithTimeoutCause(ctx, startTimeout, errors.New("it does not answer"))
	defer stop()
	for {
		conn, err := net.DialTimeout("tcp", s.Address, startTimeout)
		if err == nil {
			conn.Close()
			return s.CreateBucket(ctx, s.Bucket)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the S3 server ended while starting: %s: see %s", s.cmd.ProcessState, s.log)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the S3 server: %w: see %s", context.Cause(ctx), s.log)
		case <-time.After(startPoll):
		}
	}
}

// CreateBucket makes a bucket, unless it is there already.
func (s *Server) CreateBucket(ctx context.Context, name string) error {
	_, err := s.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(name)})
	if err == nil {
		return nil
	}
	if _, err := s.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		return fmt.Errorf("creating bucket %s: %w", name, err)
	}
	return nil
}

// Objects returns the names of the objects in a bucket, sorted.
func (s *Server) Objects(ctx context.Context, bucket string) ([]string, error) {
	var names []string
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing bucket %s: %w", bucket, err)
		}
		for _, object := range page.Contents {
			names = append(names, aws.ToString(object.Key))
		}
	}
	return names, nil
}

// Metadata returns what is stored beside an object, and is told by headers when it is fetched.
func (s *Server) Metadata(ctx context.Context, bucket, object string) (map[string]string, error) {
	head, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(object)})
	if err != nil {
		return nil, fmt.Errorf("looking at object %s of bucket %s: %w", object, bucket, err)
	}
	return head.Metadata, nil
}

// RunnerConfig returns the lines of [runners.cache], with its table for S3, that make a runner keep its
// caches in Bucket.
func (s *Server) RunnerConfig() string {
	return fmt.Sprintf(`    Type = "s3"
    [runners.cache.s3]
      ServerAddress = %q
      AccessKey = %q
      SecretKey = %q
      BucketName = %q
      BucketLocation = %q
      Insecure = true
`, s.Address, s.AccessKey, s.SecretKey, s.Bucket, s.Region)
}

// Close ends the server. What it kept stays in its directory.
func (s *Server) Close() error {
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		// There are no interrupts on Windows.
		_ = s.cmd.Process.Kill()
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.exited:
		return nil
	case <-timer.C:
	}
	err := s.cmd.Process.Kill()
	<-s.exited
	return errors.Join(errors.New("the S3 server did not end when it was told to"), err)
}
