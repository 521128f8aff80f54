//! The status page in a real browser: it shows a death and a return in time, loads nothing from
//! outside, and can be read on a phone, by night and without seeing.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "page/browser.rs"]
mod browser;
mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use browser::Browser;
use common::{Cluster, Proxy, report, wait_for};
use serde_json::json;

/// How soon the page must show what the proxy knows.
const SOON: Duration = Duration::from_secs(2);

const LONG: Duration = Duration::from_secs(30);

const CHECK: &str = "interval: 500ms, fastInterval: 100ms,";

fn open(browser: &Browser, proxy: &Proxy) {
    browser.open(&format!("http://{}/", proxy.admin));
    browser.wait_text(LONG, &["backends ready"]);
}

/// What the row of a backend says.
fn row(browser: &Browser, backend: &str) -> String {
    let row = format!(
        "[...document.querySelectorAll('#backends tr')].find(row => row.querySelector('th span').innerText === '{backend}').innerText"
    );
    browser.evaluate(&row).as_str().unwrap().to_owned()
}

/// Waits for a state in the row of a backend; returns how long after the proxy knew.
fn wait_row(browser: &Browser, proxy: &Proxy, backend: &str, state: &str, shown: &str) -> Duration {
    proxy.wait_state(backend, state, LONG);
    let known = Instant::now();
    wait_for(&format!("{backend}: {shown}"), LONG, || {
        row(browser, backend).contains(shown).then_some(())
    });
    known.elapsed()
}

#[test]
fn the_page_shows_a_death_and_a_return() {
    let Some(browser) = Browser::start() else { skip!("chromium is not installed") };
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy(CHECK, "zone: a\n");
    let client = cluster.client(&proxy);
    let held: Vec<_> = (0..3).map(|_| client.open_to("cp2")).collect();
    open(&browser, &proxy);
    browser.wait_text(LONG, &["3 of 3 backends ready", "generation 1", "static (3)"]);
    assert_eq!(browser.evaluate("document.querySelector('#failovers-table').hidden"), json!(true));

    // A death, with its reason, within 2 s of the proxy's own finding.
    cluster.server("cp2").hang();
    let death = wait_row(&browser, &proxy, "cp2", "dead", "✕ dead");
    assert!(death < SOON, "{death:?}");
    browser.wait_text(SOON, &["2 of 3 backends ready", "no TLS handshake within 1s"]);
    browser.wait_text(SOON, &["ready -> dead"]);
    assert!(browser.evaluate("document.title").as_str().unwrap().contains("2 of 3"));
    let said = browser.evaluate("document.querySelector('[aria-live]').textContent");
    assert_eq!(said, json!("cp2 is dead"));
    browser.wait_text(LONG, &["3 connections reset"]);
    browser.look(1280, 800, "light");
    report(&browser.picture("failover"));
    drop(held);

    // The sparkline holds the probes that failed.
    let failed = "document.querySelectorAll('svg .failed')[1].getAttribute('d').length > 0";
    assert_eq!(browser.evaluate(failed), json!(true));

    // A return.
    cluster.server("cp2").resume();
    let comeback = wait_row(&browser, &proxy, "cp2", "ready", "● ready");
    assert!(comeback < SOON, "{comeback:?}");
    browser.wait_text(SOON, &["3 of 3 backends ready"]);
    report(&format!(
        "on the page {death:?} after the death was known, {comeback:?} after the return"
    ));

    // Nothing to complain of, and nobody else was asked.
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let own = format!("http://{}/", proxy.admin);
    let foreign = |address: &&String| !address.starts_with(&own) && !address.starts_with("data:");
    assert_eq!(browser.requests().iter().find(foreign), None);
}

#[test]
fn it_can_be_read_on_a_phone_and_by_night() {
    let Some(browser) = Browser::start() else { skip!("chromium is not installed") };
    let cluster = Cluster::new(2);
    let dead = common::free_port();
    let lines = cluster.lines(CHECK)
        + &format!(
            "  - {{ name: a-name-as-long-as-some-installers-make-them.control-plane.example, address: \"127.0.0.1:{dead}\" }}\n"
        );
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_ready(2);
    cluster.server("cp2").ready(false);
    proxy.wait_state("cp2", "notReady", LONG);
    open(&browser, &proxy);
    browser.wait_text(LONG, &["1 of 3 backends ready", "✕ dead", "▲ notReady"]);
    sleep(SOON);
    let mut grounds = Vec::new();
    for (name, width, scheme) in [
        ("light", 1280, "light"),
        ("dark", 1280, "dark"),
        ("phone", 360, "light"),
        ("phone-dark", 360, "dark"),
    ] {
        browser.look(width, 800, scheme);
        let overflow = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{name}: {overflow} px too wide");
        let cut = "[...document.querySelectorAll('td, th, dd, p, h1, h2, svg')].filter(node => node.getBoundingClientRect().right > window.innerWidth && !node.closest('thead, .hidden')).length";
        assert_eq!(browser.evaluate(cut), json!(0), "{name}: something is cut off");
        grounds.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
        let contrast = worst_contrast(&browser);
        report(&format!("{name}: {}, least contrast {contrast:.1}", browser.picture(name)));
        assert!(contrast >= 4.5, "{name}: WCAG AA asks for 4.5: {contrast}");
    }
    assert_ne!(grounds[0], grounds[1], "light and dark look the same");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// The least contrast of any text with what is behind it.
fn worst_contrast(browser: &Browser) -> f64 {
    let script = "(() => {
        const light = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
        const behind = (node) => {
            for (; node; node = node.parentElement) {
                const colour = getComputedStyle(node).backgroundColor;
                if (!colour.endsWith(', 0)')) return colour;
            }
        };
        const worst = [...document.querySelectorAll('body *')]
            .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
            .filter((node) => node.checkVisibility() && !['SCRIPT', 'TEMPLATE', 'NOSCRIPT'].includes(node.tagName))
            .map((node) => [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a))
            .map(([high, low]) => (high + 0.05) / (low + 0.05));
        return Math.min(...worst);
    })()";
    browser.evaluate(script).as_f64().unwrap()
}

#[test]
fn tables_are_tables_to_those_who_do_not_see_at_any_width() {
    let Some(browser) = Browser::start() else { skip!("chromium is not installed") };
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy(CHECK, "");
    open(&browser, &proxy);
    browser.wait_text(LONG, &["unknown -> ready"]);
    for width in [1280, 360] {
        browser.look(width, 800, "light");
        let tree = browser.call("Accessibility.getFullAXTree", &json!({}));
        let nodes: Vec<_> = tree["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["ignored"] == false)
            .collect();
        let named = |role: &str| {
            let of_role = nodes.iter().filter(|node| node["role"]["value"] == role);
            of_role
                .map(|node| node["name"]["value"].as_str().unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(named("table"), ["Backends", "Events"], "{width}");
        let rows = named("rowheader");
        assert!(rows.len() == 2 && rows[0].contains("cp1"), "{width}: {rows:?}");
        let heads = named("columnheader");
        assert!(heads.contains(&"State") && heads.contains(&"Why"), "{width}: {heads:?}");
        let pictures = named("image");
        assert!(
            pictures.iter().any(|name| name.contains("probes, latest")),
            "{width}: {pictures:?}"
        );
    }
}

#[test]
fn it_says_when_the_proxy_does_not_answer() {
    let Some(browser) = Browser::start() else { skip!("chromium is not installed") };
    let cluster = Cluster::new(2);
    let mut proxy = cluster.proxy(CHECK, "");
    open(&browser, &proxy);
    proxy.child.kill().unwrap();
    proxy.child.wait().unwrap();
    browser.wait_text(Duration::from_secs(5), &["The proxy does not answer for", "said last"]);
    browser.wait_text(SOON, &["2 of 2 backends ready"]);
}

#[test]
fn names_and_reasons_are_text_and_never_markup() {
    let Some(browser) = Browser::start() else { skip!("chromium is not installed") };
    let cluster = Cluster::new(1);
    let hostile = "<img/src=x/onerror=document.title=1><script>document.title=1</script>";
    let lines = cluster.lines(CHECK)
        + &format!(
            "  - {{ name: \"{hostile}\", address: \"127.0.0.1:{}\" }}\n",
            common::free_port()
        );
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    open(&browser, &proxy);
    browser.wait_text(LONG, &[hostile, "✕ dead"]);
    assert_eq!(browser.evaluate("document.images.length + document.scripts.length"), json!(1));
    assert!(browser.evaluate("document.title").as_str().unwrap().contains("backends ready"));
    // The policy holds even where a script of ours would not: what is put in does not run.
    let try_it = "(() => { try { document.body.innerHTML = '<img src=x onerror=\"document.title=1\">'; return 'done'; } catch (error) { return error.name; } })()";
    assert_eq!(browser.evaluate(try_it), json!("TypeError"));
    let load = "fetch('http://127.0.0.1:1/').then(() => 'loaded', () => 'refused')";
    assert_eq!(browser.evaluate(load), json!("refused"));
    let refused =
        browser.complaints().iter().filter(|text| text.contains("Content Security Policy")).count();
    assert!(refused >= 1, "{:?}", browser.complaints());
}

#[test]
fn the_page_comes_with_a_strict_policy() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("", "");
    let mut stream = TcpStream::connect(proxy.admin).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    for line in [
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
    ] {
        assert!(head.contains(line), "no {line} in {head}");
    }
    for never in ["unsafe-inline", "unsafe-eval", "*", "http:"] {
        assert!(!head.contains(never), "{never} in {head}");
    }
}
