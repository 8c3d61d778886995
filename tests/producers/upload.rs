//! Files that come over a network: from a server of this test that breaks off, and to the ssh
//! server, from its own client, into the account of another user.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{have, is_root, skip};
use crate::world::{SIZE, World, bytes, one};

/// With the long threshold nothing is delivered that is not proved. `settled` waits for a writer
/// that comes back.
const TRIGGERS: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "see"
stability_threshold = "1h"
[triggers.settled]
drop = "settled"
run = "see"
settle = "4s"
"#;

/// Where the ssh server's package is, unpacked, if it is not installed.
const UNPACKED: &str = "DAGD_SSHD";

/// Answers so many requests for the source: half of it, or the rest from where it is asked for.
fn serve(listener: &TcpListener, requests: usize) {
    let text = bytes(1);
    for _ in 0..requests {
        let (mut client, _) = listener.accept().unwrap();
        let mut from = None;
        for line in BufReader::new(&client).lines() {
            let line = line.unwrap().to_lowercase();
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = Some(range.trim_end_matches('-').parse::<usize>().unwrap());
            }
            if line.is_empty() {
                break;
            }
        }
        let (status, body) = match from {
            None => ("200 OK".to_owned(), &text[..SIZE / 2]),
            Some(from) => (
                format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{SIZE}", SIZE - 1),
                &text[from..],
            ),
        };
        let size = SIZE - from.unwrap_or(0);
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n");
        client.write_all(head.as_bytes()).unwrap();
        client.write_all(body).unwrap();
    }
}

#[test]
fn a_download_that_breaks_and_is_resumed() {
    if !have("curl") {
        return;
    }
    let mut world = World::new(TRIGGERS);
    world.env.mkdir("settled");
    world.env.start();
    fs::write(world.env.at("half"), &bytes(1)[..SIZE / 2]).unwrap();
    let half = world.env.at("half");
    world.know("half", &half);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // 18: there was less than was announced.
    let begin = |path: &str| format!("curl -sS --noproxy '*' -o {path} {url} || test $? = 18");
    let resume = |path: &str| format!("curl -sS --noproxy '*' -C - -o {path} {url}");
    std::thread::spawn(move || serve(&listener, 6));
    // Nothing tells that there will be more.
    world.sh(&begin("in/f"), &[]);
    world.delivers([one("f", "half")]);
    world.sh(&resume("in/f"), &[]);
    // What comes back within `settle`, or gets its name when it is complete, is delivered once.
    let part = format!("{}; {}; mv in/g.part in/g", begin("in/g.part"), resume("in/g.part"));
    let both = format!("{}; {}", begin("settled/h"), resume("settled/h"));
    world.sh(&format!("{part}; {both}"), &[]);
    world.delivers(["f", "g", "h"].map(|name| one(name, "s")));
}

/// Starts the server on the loopback of a network of its own, with users of its own, and runs the
/// clients. Nothing of it is seen outside of its namespaces, and nothing outlives the script.
const SSH: &str = r#"
ip link set lo up
cp /etc/passwd passwd
echo 'sshd:*:65532:65534::/run/sshd:/usr/sbin/nologin' >> passwd
echo 'uploader:*:65533:65534::/nowhere:/bin/sh' >> passwd
mount --bind passwd /etc/passwd
mount -t tmpfs none /run
mkdir -p -m 755 /run/sshd
if test -n "$PACKAGE"; then mount --bind "$PACKAGE/usr/lib/openssh" /usr/lib/openssh; fi
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f key
cp key.pub authorized
cat > sshd_config <<END
ListenAddress 127.0.0.1
Port 2222
HostKey $PWD/host_key
AuthorizedKeysFile $PWD/authorized
PidFile $PWD/sshd.pid
StrictModes no
PasswordAuthentication no
Subsystem sftp internal-sftp
END
cat > ssh_config <<END
Host there
HostName 127.0.0.1
Port 2222
User uploader
IdentityFile $PWD/key
IdentitiesOnly yes
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
END
"$PACKAGE/usr/sbin/sshd" -f sshd_config -E sshd.log
until test -s sshd.pid; do sleep 0.01; done
sftp -q -F ssh_config -b - there <<END
put s $PWD/in/put
put -p s $PWD/in/put-p
put s $PWD/in/renamed.part
rename $PWD/in/renamed.part $PWD/in/renamed
put s $PWD/in/linked.part
rename -l $PWD/in/linked.part $PWD/in/linked
END
# Two or three seconds: in kilobits.
sftp -q -F ssh_config -l 1000 -b - there <<END
put s $PWD/in/slow
END
scp -q -F ssh_config s there:$PWD/in/scp
scp -q -F ssh_config -O s there:$PWD/in/scp-old
rsync -a -e "ssh -F $PWD/ssh_config" s there:$PWD/in/rsync
"#;

#[test]
fn another_user_uploads_by_ssh() {
    if !is_root() {
        return skip("needs root: an ssh server for another user");
    }
    let Some(package) = sshd() else {
        return skip("the ssh server is not there; tests/run fetches it");
    };
    if !(have("ip") && have("sftp") && have("unshare") && have("rsync")) {
        return;
    }
    let mut world = World::new(TRIGGERS);
    world.env.mkdir("settled");
    for (dir, mode) in [("", 0o755), ("in", 0o1777)] {
        fs::set_permissions(world.env.at(dir), fs::Permissions::from_mode(mode)).unwrap();
    }
    world.env.start();
    assert_eq!(world.readiness("in"), "proved");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", SSH]);
    command.current_dir(world.env.path()).env("PACKAGE", &package).stdin(Stdio::null());
    let output = command.output().unwrap();
    let log = fs::read_to_string(world.env.at("sshd.log")).unwrap_or_default();
    assert!(output.status.success(), "{output:?}\n{log}");
    let names = ["put", "put-p", "renamed", "linked", "slow", "scp", "scp-old", "rsync"];
    for name in names {
        let meta = fs::metadata(world.env.at("in").join(name)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 65533, "{name}");
    }
    world.delivers(names.map(|name| one(name, "s")));
}

/// Where the ssh server's package is: unpacked somewhere, or installed.
fn sshd() -> Option<PathBuf> {
    let unpacked = std::env::var_os(UNPACKED).map(PathBuf::from);
    let places = unpacked.into_iter().chain([PathBuf::new()]);
    let there = |place: &PathBuf| Path::new("/").join(place).join("usr/sbin/sshd").exists();
    places.into_iter().find(there)
}
