package pluginartifact

import (
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNotExecutable says that a file is no program for a platform.
var ErrNotExecutable = errors.New("not an executable of this platform")

// headerSize is how much of a file is looked at. The header of a Windows program comes after a program
// for DOS, which is a few hundred bytes long.
const headerSize = 64 << 10

// checkExecutable looks at the header of a program. Systems that it does not know are passed over.
func checkExecutable(path string, p Platform) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	header, err := io.ReadAll(io.LimitReader(file, headerSize))
	if err != nil {
		return err
	}
	return checkHeader(header, p)
}

func checkHeader(header []byte, p Platform) error {
	var found string
	switch p.OS {
	case "windows":
		found = peArch(header)
	case "darwin", "ios":
		found = machoArch(header)
	case "linux", "android", "freebsd", "openbsd", "netbsd", "dragonfly", "solaris", "illumos":
		found = elfArch(header)
	default:
		return nil
	}
	switch found {
	case p.Arch:
		return nil
	case "":
		return fmt.Errorf("%w: it is no program for %s", ErrNotExecutable, p.OS)
	default:
		return fmt.Errorf("%w: it is for %s, not for %s", ErrNotExecutable, found, p.Arch)
	}
}

// elfArch is the architecture of an ELF file in Go's words, empty for what is none.
func elfArch(header []byte) string {
	if len(header) < 20 || string(header[:4]) != elf.ELFMAG {
		return ""
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(header[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	little := order == binary.LittleEndian
	machine := elf.Machine(order.Uint16(header[18:]))
	switch {
	case machine == elf.EM_X86_64:
		return "amd64"
	case machine == elf.EM_AARCH64 && little:
		return "arm64"
	case machine == elf.EM_386:
		return "386"
	case machine == elf.EM_ARM && little:
		return "arm"
	case machine == elf.EM_PPC64 && little:
		return "ppc64le"
	case machine == elf.EM_S390:
		return "s390x"
	case machine == elf.EM_RISCV:
		return "riscv64"
	case machine == elf.EM_LOONGARCH:
		return "loong64"
	default:
		return machine.String()
	}
}

func peArch(header []byte) string {
	const offset = 0x3c // where the place of the second header stands
	if len(header) < offset+4 || string(header[:2]) != "MZ" {
		return ""
	}
	at := int64(binary.LittleEndian.Uint32(header[offset:]))
	if at+6 > int64(len(header)) || string(header[at:at+4]) != "PE\x00\x00" {
		return ""
	}
	switch machine := binary.LittleEndian.Uint16(header[at+4:]); machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return "amd64"
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return "arm64"
	case pe.IMAGE_FILE_MACHINE_I386:
		return "386"
	default:
		return fmt.Sprintf("machine 0x%x", machine)
	}
}

func machoArch(header []byte) string {
	if len(header) < 8 || binary.LittleEndian.Uint32(header) != macho.Magic64 {
		return ""
	}
	switch cpu := macho.Cpu(binary.LittleEndian.Uint32(header[4:])); cpu {
	case macho.CpuAmd64:
		return "amd64"
	case macho.CpuArm64:
		return "arm64"
	default:
		return cpu.String()
	}
}
