//! Servers under load, attached, watched and left over and over: no request fails, and in the end they
//! are what they were.
//!
//! `SLEDGE_CYCLES=200 cargo nextest run --release -p sledge-tests --test servers --no-capture` for
//! longer.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a long run says what it did")]

use sledge_tests::{Checks, Look, Trouble, Watching, assert_restored, control, scratch};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server, and the protocol in which it is asked.
struct Kind {
    name: &'static str,
    protocol: &'static str,
    command: fn(&Path, u16) -> Option<Command>,
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

const SERVERS: [Kind; 5] = [
    Kind {
        name: "redis-server",
        protocol: "redis",
        command: |_, port| {
            let port = port.to_string();
            Some(command("redis-server", &["--port", &port, "--save", "", "--bind", "127.0.0.1"]))
        },
    },
    Kind {
        name: "memcached",
        protocol: "memcached",
        command: |_, port| {
            let port = port.to_string();
            Some(command("memcached", &["-p", &port, "-l", "127.0.0.1", "-U", "0", "-u", "root"]))
        },
    },
    Kind { name: "nginx", protocol: "http", command: nginx },
    Kind {
        name: "python3",
        protocol: "http",
        command: |_, port| {
            let program = "
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '6')
        self.end_headers()
        self.wfile.write(b'hello\\n')
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()";
            Some(command("python3", &["-c", program, &port.to_string()]))
        },
    },
    Kind {
        name: "node",
        protocol: "http",
        command: |_, port| {
            let program = format!(
                "require('http').createServer((q, a) => {{ a.setHeader('Content-Length', 6); \
                 a.end('hello\\n'); }}).listen({port}, '127.0.0.1')"
            );
            Some(command("node", &["-e", &program]))
        },
    },
];

fn nginx(directory: &Path, port: u16) -> Option<Command> {
    let configuration = directory.join("nginx.conf");
    let place = directory.display();
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {place}; proxy_temp_path {place};\n\
         fastcgi_temp_path {place}; uwsgi_temp_path {place}; scgi_temp_path {place};\n\
         keepalive_requests 100000000;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello\\n'; }} }} }}\n"
    );
    std::fs::write(&configuration, text).ok()?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(configuration).arg("-e").arg(directory.join("error"));
    Some(command)
}

/// A process that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who asks.
struct Load {
    _process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Load {
    fn start(protocol: &str, port: u16) -> Result<Self, Trouble> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/load.py");
        let mut python = Command::new("python3");
        python.arg("-B").arg(script).args([protocol, &port.to_string()]);
        let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).ok_or("no pipes")?;
        let mut load = Self { _process: Running(child), input, output: BufReader::new(output) };
        match load.line()?.as_str() {
            "ready" => Ok(load),
            other => Err(format!("no load: {other:?}").into()),
        }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Requests so far; an error if one failed.
    fn requests(&mut self) -> Result<u64, Trouble> {
        self.input.write_all(b"\n")?;
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match (number(), number()) {
            (Some(requests), Some(0)) => Ok(requests),
            _ => Err(format!("requests failed: {line}").into()),
        }
    }

    /// Requests a second, for a while.
    fn rate(&mut self) -> Result<f64, Trouble> {
        let (before, begin) = (self.requests()?, Instant::now());
        std::thread::sleep(Duration::from_millis(300));
        Ok((self.requests()? - before) as f64 / begin.elapsed().as_secs_f64())
    }
}

fn cycles() -> usize {
    std::env::var("SLEDGE_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn attached_over_and_over(kind: &Kind) -> Result<(), Trouble> {
    if Command::new(kind.name).arg("--version").output().is_err() {
        return Err(Trouble::Skip(format!("{} is not installed", kind.name)));
    }
    let directory = TempDir::new_in(scratch()?)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = (kind.command)(directory.path(), port).ok_or("no configuration")?;
    command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Running(command.spawn()?);
    let pid = server.0.id();
    let mut load = Load::start(kind.protocol, port)?;
    let before = load.rate()?;
    let look = Look::at(pid)?;
    for cycle in 0..cycles() {
        let options = [&[][..], &["--libs"], &["-P", "[a-m].*"]][cycle % 3];
        let mut watching = Watching::start(pid, options)?;
        std::thread::sleep(Duration::from_millis(30));
        control(pid, &["filter", ".*e.*"])?;
        load.requests()?;
        std::thread::sleep(Duration::from_millis(20));
        watching.stop()?;
        assert_restored(pid).map_err(|error| format!("cycle {cycle}: {error:?}"))?;
        if let Some(end) = server.0.try_wait()? {
            return Err(format!("cycle {cycle}: the server ended: {end}").into());
        }
        load.requests()?;
    }
    let after = load.rate()?;
    eprintln!("{}: {before:.0} requests a second before, {after:.0} after", kind.name);
    let now = Look::at(pid)?;
    now.same_but_for_connections(&look)
}

#[test]
fn servers_under_load() {
    let mut checks = Checks::new("servers");
    for kind in &SERVERS {
        checks.case(kind.name, || attached_over_and_over(kind));
    }
    checks.finish();
}
