// Package docker is a fleeting plugin whose instances are containers on the Docker Engine of this
// machine. Each has an SSH server and a Docker Engine of its own, so that the whole way of a job, from
// scaling to SSH to containers on the instance, can be run without a cloud.
//
// It guarantees that it touches only containers and volumes that carry its labels; that an instance is
// reported running only after both of its servers answered; that what it learns about an instance can
// be learned again after a restart of the plugin; and that no private key stands on a command line or
// in what the engine shows about a container.
//
// An instance is no security boundary: it is nearly as powerful as this machine's root. What a job can
// do is bounded by the job's own container on the instance, as on a machine without this plugin.
//
// What it asks of an instance image: the command "run" of its entry point boots, prints the line
// "instance: ready" and shuts down in order with status 0 on a TERM signal; the command "seed" loads
// the images on standard input into /seed; the SSH server uses host_key and authorized_keys in
// /etc/ssh/instance. The folder image holds such an image.
//
// The plugin's main program imports it, and the simulated clouds, whose machines are such instances.
package docker
