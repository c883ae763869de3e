// Package clouds runs GitLab jobs through the fleeting plugins of AWS, Google Cloud and Azure, with the documented
// examples as they stand, on simulated clouds: the plugins' processes, the clouds' own SDKs, SSH and Docker are
// real, the machines are containers. Run it with make system.
package clouds
