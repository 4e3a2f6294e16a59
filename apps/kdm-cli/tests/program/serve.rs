//! `kdm serve`: the same bits as from the command line, whoever else asks; what is wrong is told by
//! its field; a stop finishes what was taken.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Folder, distill, done, fails, kdm, store};

/// A server of a test.
pub struct Server {
    child: Child,
    address: String,
}

/// An answer of it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The status and the field of an error.
    fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (self.status, error["field"].as_str().unwrap_or_default().to_string())
    }

    fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| {
            let (key, _) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| line.len() - key.len() - 1)
        };
        self.head.lines().find_map(|line| Some(line[line.len() - of(line)?..].trim()))
    }
}

impl Server {
    /// Starts one with these words; it listens when this returns.
    pub fn new(words: &[&str]) -> Self {
        let mut command = kdm(&[&["serve --listen 127.0.0.1:0 --threads 2"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_string();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Self { child, address }
    }

    pub fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Connection(BufReader::new(stream))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.connect().ask("GET", path, "", b"")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().post(path, body.to_string().as_bytes())
    }

    fn signal(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept for several requests.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, "Content-Type: application/json\r\n", body)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.send(method, path, headers, body);
        self.answer()
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "closed after `{head}`");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |n| n.parse().unwrap());
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body).unwrap();
        answer
    }
}

/// Samples, interpolations and edits are the bits that the command line draws, whatever is joined
/// with them in a batch.
#[test]
fn what_is_served_is_what_the_program_draws() {
    let folder = Folder::new();
    let server = Server::new(&["--model fashion-mnist"]);
    let drawn = |words: &str, name: &str| {
        let out = folder.at(name);
        done(&[words, "--model fashion-mnist --out", &out]);
        fs::read(out).unwrap()
    };
    let cases = [
        ("/v1/samples", json!({ "seeds": [5, 6, 7] }), "sample --seeds 5-7"),
        ("/v1/samples", json!({ "count": 70, "class": 3 }), "sample -n 70 --class 3"),
        (
            "/v1/interpolate",
            json!({ "seeds": [1, 2, 9], "steps": 4 }),
            "interpolate --seeds 1,2,9 --steps 4",
        ),
        (
            "/v1/interpolate",
            json!({ "seeds": [1, 2], "class": 3, "in": "noise" }),
            "interpolate --seeds 1,2 --classes 3 --in noise",
        ),
        (
            "/v1/edit",
            json!({ "seeds": [3, 4], "mode": 2, "steps": 5 }),
            "edit --seeds 3,4 --mode 2 --steps 5",
        ),
        (
            "/v1/edit",
            json!({ "seeds": [3], "from_class": 5, "to_class": 9, "reach": 0.5 }),
            "edit --seeds 3 --from-class 5 --to-class 9 --reach 0.5",
        ),
    ];
    let expected: Vec<Vec<u8>> = cases
        .iter()
        .enumerate()
        .map(|(i, (_, _, words))| drawn(words, &format!("{i}.npy")))
        .collect();
    thread::scope(|scope| {
        for round in 0..3 {
            for ((path, body, _), expected) in cases.iter().zip(&expected) {
                let server = &server;
                scope.spawn(move || {
                    let mut body = body.clone();
                    body["format"] = json!("npy");
                    let answer = server.post(path, &body);
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert!(answer.body == *expected, "round {round}: {path} {body}");
                });
            }
        }
    });

    // The other forms hold the same samples.
    let png = server.post("/v1/samples", &json!({ "seeds": [5, 6, 7], "columns": 3 }));
    assert_eq!(png.header("content-type"), Some("image/png"));
    let picture = image::load_from_memory(&png.body).unwrap();
    assert_eq!((picture.width(), picture.height()), (3 * 32 + 4, 32));
    let zip = server.post("/v1/samples", &json!({ "seeds": [5, 6], "format": "zip" }));
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(zip.body)).unwrap();
    assert_eq!(zip.len(), 2);
    let mut image = Vec::new();
    zip.by_name("0001-seed-6.png").unwrap().read_to_end(&mut image).unwrap();
    let one = image::load_from_memory(&image).unwrap().into_luma8();
    let place = image::imageops::crop_imm(&picture.into_luma8(), 34, 0, 32, 32).to_image();
    assert!(one == place);
    let numbers = server.post("/v1/samples", &json!({ "seeds": [5], "format": "json" })).json();
    assert_eq!((&numbers["shape"], &numbers["seeds"]), (&json!([1, 32, 32]), &json!([5])));
    let first = f32::from_le_bytes(expected[0][128..132].try_into().unwrap());
    assert_eq!(numbers["samples"][0][0].as_f64().unwrap() as f32, first);
    assert!(numbers["classes"][0].is_u64());
}

/// A mix of one class is that class, a way of no length is its beginning, and no move is none; the
/// teacher's samples are those of `teacher sample`.
#[test]
fn a_student_is_explored() {
    let folder = Folder::new();
    let server = Server::new(&["--model fashion-mnist"]);
    let draw = |more: Value| {
        let mut body = json!({ "seeds": [11, 12], "format": "json" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.post("/v1/samples", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let rows = answer.json()["samples"].clone();
        serde_json::from_value::<Vec<Vec<f32>>>(rows).unwrap().concat()
    };
    let off =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let plain = draw(json!({ "class": 4 }));
    let same = [
        json!({ "mix": { "4": 1.0 } }),
        json!({ "class": 4, "way": { "seed": 50, "t": 0.0 } }),
        json!({ "class": 4, "way": { "seed": 50, "t": 0.0, "in": "noise" } }),
        json!({ "class": 4, "moves": [{ "mode": 1, "strength": 0.0 }] }),
    ];
    for same in same {
        // Frozen layers and plain ones round in another order.
        assert!(off(&plain, &draw(same.clone())) < 1e-3, "{same}");
    }
    let end = draw(json!({ "seeds": [50, 50], "class": 4 }));
    for space in ["latent", "noise"] {
        let way = json!({ "class": 4, "way": { "seed": 50, "t": 1.0, "in": space } });
        assert!(off(&end, &draw(way)) < 1e-3, "{space}");
    }
    for other in [
        json!({ "mix": { "4": 0.5, "8": 0.5 } }),
        json!({ "class": 4, "moves": [{ "mode": 1, "strength": 2.0 }] }),
        json!({ "class": 4, "moves": [{ "principal": 1, "strength": 2.0 }] }),
        json!({ "class": 4, "way": { "seed": 50, "t": 0.5 } }),
    ] {
        assert!(off(&plain, &draw(other.clone())) > 0.1, "{other}");
    }

    let out = folder.at("teacher.npy");
    done(&["teacher sample --model fashion-mnist --seeds 3,4 --class 7 --out", &out]);
    let body = json!({ "seeds": [3, 4], "class": 7, "source": "teacher", "format": "npy" });
    assert!(server.post("/v1/samples", &body).body == fs::read(out).unwrap());
    let many = json!({ "count": 65, "source": "teacher" });
    assert_eq!(server.post("/v1/samples", &many).error(), (413, "source".into()));

    // An image of the student's comes back.
    let image = &plain[..1024];
    let body = json!({ "images": [image], "class": 4, "steps": 5 });
    let found = server.post("/v1/invert", &body).json();
    let error = |key: &str| found["inversion"]["coordinate_rmse"][key].as_f64().unwrap();
    assert!(error("refined_latent") <= error("encoder") && error("encoder") < 1.0, "{found}");
    assert_eq!(found["noise"][0].as_array().unwrap().len(), 1024);
}

/// Whatever is wrong is told with its field, and what is too much is refused; nothing ends in a
/// 5xx.
#[test]
fn what_is_wrong_is_told_by_its_field() {
    let server = Server::new(&["--model fashion-mnist --max-samples 40 --timeout 30s"]);
    let cases = [
        ("samples", json!({}), 400, "seeds"),
        ("samples", json!({ "count": 0 }), 400, "count"),
        ("samples", json!({ "count": 41 }), 413, "count"),
        ("samples", json!({ "count": 1, "seeds": [1] }), 400, "count"),
        ("samples", json!({ "count": 1, "klass": 1 }), 400, "klass"),
        ("samples", json!({ "count": -1 }), 400, "count"),
        ("samples", json!({ "seeds": [1, "a"] }), 400, "seeds[1]"),
        ("samples", json!({ "count": 1, "class": 10 }), 400, "class"),
        ("samples", json!({ "count": 2, "classes": [1] }), 400, "classes"),
        ("samples", json!({ "count": 2, "classes": [1, 11] }), 400, "classes[1]"),
        ("samples", json!({ "count": 1, "mix": { "12": 1 } }), 400, "mix.12"),
        ("samples", json!({ "count": 1, "way": { "seed": 1, "t": 2 } }), 400, "way.t"),
        ("samples", json!({ "count": 1, "moves": [{ "strength": 1 }] }), 400, "moves[0].mode"),
        (
            "samples",
            json!({ "count": 1, "moves": [{ "mode": 0, "strength": 1 }] }),
            400,
            "moves[0].mode",
        ),
        (
            "samples",
            json!({ "count": 1, "moves": [{ "mode": 1, "strength": 1e9 }] }),
            400,
            "moves[0].strength",
        ),
        ("samples", json!({ "count": 1, "model": "other" }), 404, "model"),
        ("samples", json!({ "count": 1, "format": "gif" }), 400, "format"),
        ("samples", json!({ "noise": [[1, 2]], "class": 1 }), 400, "noise[0]"),
        ("samples", json!({ "noise": [vec![0.0; 1024]] }), 400, "class"),
        ("samples", json!({ "count": 1, "source": "teacher", "mix": {"1": 1} }), 400, "mix"),
        ("interpolate", json!({ "seeds": [1] }), 400, "seeds"),
        ("interpolate", json!({ "seeds": [1, 2], "steps": 1 }), 400, "steps"),
        ("interpolate", json!({ "seeds": [1, 2], "steps": 1000 }), 413, "steps"),
        ("interpolate", json!({ "seeds": [1, 2, 3], "steps": 30 }), 413, "seeds"),
        ("edit", json!({ "seeds": [1] }), 400, "mode"),
        ("edit", json!({ "seeds": [1], "mode": 1, "steps": 4 }), 400, "steps"),
        ("edit", json!({ "seeds": [1], "from_class": 2, "to_class": 2 }), 400, "to_class"),
        ("edit", json!({ "seeds": [1], "mode": 1, "principal": 1 }), 400, "principal"),
        ("invert", json!({ "images": [] }), 400, "images"),
        ("invert", json!({ "images": [[0.0]], "class": 1 }), 400, "images[0]"),
        ("invert", json!({ "images": [vec![0.0; 1024]] }), 400, "classes"),
        ("invert", json!({ "images": [vec![0.0; 1024]], "class": 1, "steps": 999 }), 413, "steps"),
    ];
    for (path, body, status, field) in cases {
        let answer = server.post(&format!("/v1/{path}"), &body);
        assert_eq!(answer.error(), (status, field.to_string()), "{path} {body}");
    }
    let mut connection = server.connect();
    for body in [&b""[..], b"{", b"[]", b"{\"count\": 1} x", b"\xff\xfe", b"nul"] {
        let answer = connection.post("/v1/samples", body);
        assert_eq!(answer.error(), (400, "body".into()), "{body:?}");
    }
    let plain = connection.ask("POST", "/v1/samples", "Content-Type: text/plain\r\n", b"{}");
    assert_eq!(plain.error().0, 415);
    assert_eq!(connection.ask("GET", "/v1/samples", "", b"").error().0, 405);
    assert_eq!(connection.ask("GET", "/v2", "", b"").error().0, 404);
    assert_eq!(server.get("/v1/models/other").error().0, 404);
}

/// What is beside samples: the page, which loads nothing from elsewhere; the document, whose paths
/// are there; the counters.
#[test]
fn the_page_and_what_is_beside_it() {
    let server = Server::new(&["--model fashion-mnist"]);
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    for file in ["/page.js", "/page.css"] {
        assert_eq!(server.get(file).status, 200);
    }
    let about = server.get("/v1/models/fashion-mnist").json();
    assert_eq!((&about["classes"], &about["method"]), (&json!(10), &json!("koopman")));
    assert!(about["modes"][0]["amplitude"].as_f64() >= about["modes"][1]["amplitude"].as_f64());
    assert!(about["teacher_evaluations"].as_u64().unwrap() > 1);
    assert_eq!(server.get("/v1/models").json()["models"][0]["name"], "fashion-mnist");
    assert_eq!(server.get("/healthz").json()["status"], "ok");

    let document = server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 8);
    for (path, methods) in paths {
        let path = path.replace("{name}", "fashion-mnist");
        let status = match methods.get("get") {
            Some(_) => server.get(&path).status,
            None => server.post(&path, &json!({ "strange": 1 })).status,
        };
        assert!([200, 400].contains(&status), "{path}: {status}");
    }
    server.post("/v1/samples", &json!({ "count": 3 }));
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("kdm_samples_total 3"), "{metrics}");
    assert!(metrics.contains("route=\"/v1/samples\",status=\"200\""), "{metrics}");
}

/// A token guards what computes; without one the server stays on this machine.
#[test]
fn a_token_guards_the_server() {
    let folder = Folder::new();
    fs::write(folder.path("token"), "a long secret\n").unwrap();
    let model = "serve --model fashion-mnist --listen 0.0.0.0:0";
    fails(&[model], 2, &["--token-file", "--insecure"]);
    fails(&["serve --model nothing --listen 127.0.0.1:0"], 2, &["nothing"]);
    let server = Server::new(&["--model fashion-mnist --token-file", &folder.at("token")]);
    assert_eq!((server.get("/").status, server.get("/healthz").status), (200, 200));
    let denied = server.post("/v1/samples", &json!({ "count": 1 }));
    assert_eq!(denied.error().0, 401);
    assert_eq!(denied.header("www-authenticate"), Some("Bearer"));
    let with = |token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        server.connect().ask("GET", "/v1/models", &header, b"").status
    };
    assert_eq!((with("a long secret"), with("another"), with("")), (200, 401, 401));
}

/// A full queue sends requests away with a time to come back; all others are answered, also when
/// the server is stopped while they wait.
#[cfg(unix)]
#[test]
fn overload_is_told_and_a_stop_loses_nothing() {
    let mut server = Server::new(&["--model fashion-mnist --queue 300"]);
    let body = json!({ "count": 100, "format": "npy" }).to_string();
    let mut connections: Vec<Connection> = (0..24).map(|_| server.connect()).collect();
    for connection in &mut connections {
        let json = "Content-Type: application/json\r\n";
        connection.send("POST", "/v1/samples", json, body.as_bytes());
    }
    // The first is drawn, so all were taken or sent away.
    let mut answers: Vec<Answer> = Vec::new();
    answers.push(connections.remove(0).answer());
    thread::sleep(Duration::from_millis(200));
    server.signal();
    answers.extend(connections.iter_mut().map(Connection::answer));
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(
        count(200) + count(429),
        24,
        "{:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    assert!(count(200) >= 3 && count(429) >= 1, "{} {}", count(200), count(429));
    for answer in &answers {
        if answer.status == 429 {
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
        } else {
            assert_eq!(answer.body.len(), 128 + 4 * 100 * 1024);
        }
    }
    assert!(server.child.wait().unwrap().success());
    assert!(TcpStream::connect(&server.address).is_err());
}

/// While an image is inverted (some hundred passes forward and back), samples are drawn.
#[test]
fn nobody_who_draws_waits_for_an_inversion() {
    let server = Server::new(&["--model fashion-mnist"]);
    let images = vec![vec![0.0; 1024]; 8];
    let body = json!({ "images": images, "class": 4, "steps": 200 }).to_string();
    let mut inverting = server.connect();
    let json = "Content-Type: application/json\r\n";
    inverting.send("POST", "/v1/invert", json, body.as_bytes());
    let waiting = || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let line = metrics.lines().find(|line| line.starts_with("kdm_waiting_samples "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<usize>().unwrap()
    };
    while waiting() == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    for body in [
        json!({ "count": 3, "format": "npy" }),
        json!({ "seeds": [1], "class": 4, "moves": [{ "mode": 1, "strength": 1.0 }] }),
    ] {
        assert_eq!(server.post("/v1/samples", &body).status, 200);
    }
    let stream = inverting.0.get_ref();
    stream.set_nonblocking(true).unwrap();
    let answered = stream.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(answered, Err(std::io::ErrorKind::WouldBlock), "the inversion was done before");
}

/// Students of points, direct ones, and several at once.
#[test]
fn other_students_are_served() {
    let folder = Folder::new();
    let pairs = store(&folder, "pairs", "1500", &[]);
    let (koopman, direct) = (folder.at("koopman"), folder.at("direct"));
    done(&distill(&pairs, &koopman, &[]));
    done(&distill(&pairs, &direct, &["--set student.method=direct --set loss.push_weight=1"]));
    for name in ["koopman", "direct"] {
        let from = folder.path(name).join("student.safetensors");
        fs::copy(from, folder.path(&format!("{name}.safetensors"))).unwrap();
    }
    let models = ["koopman.safetensors", "direct.safetensors"].map(|name| folder.at(name));
    let server = Server::new(&["--model", &models[0], "--model", &models[1]]);
    assert_eq!(server.post("/v1/samples", &json!({ "count": 1 })).error(), (400, "model".into()));
    for (name, model) in ["koopman", "direct"].into_iter().zip(&models) {
        let out = folder.at(&format!("{name}.npy"));
        done(&["sample -n 300 --model", model, "--out", &out]);
        let body = json!({ "model": name, "count": 300, "format": "npy" });
        assert!(server.post("/v1/samples", &body).body == fs::read(out).unwrap(), "{name}");
        let png = server.post("/v1/samples", &json!({ "model": name, "count": 300 }));
        assert!(image::load_from_memory(&png.body).is_ok());
        let zip = json!({ "model": name, "count": 3, "format": "zip" });
        assert_eq!(server.post("/v1/samples", &zip).error(), (400, "format".into()));
        let way = json!({ "model": name, "count": 3, "way": { "seed": 1, "t": 0.5 } });
        let expected = if name == "direct" { 400 } else { 200 };
        assert_eq!(server.post("/v1/samples", &way).status, expected, "{name}");
        // The checkerboard's exact teacher is known by its name.
        let teacher = json!({ "model": name, "count": 3, "source": "teacher" });
        assert_eq!(server.post("/v1/samples", &teacher).status, 200);
    }
    // One name twice: the second is known by a number.
    let twins = Server::new(&["--model", &models[0], "--model", &models[0]]);
    let told = twins.get("/v1/models").json();
    let names = [0, 1].map(|i| told["models"][i]["name"].as_str().unwrap().to_string());
    assert_eq!(names, ["koopman", "koopman-2"]);
    assert_eq!(twins.get("/v1/models/koopman-2").status, 200);
}
