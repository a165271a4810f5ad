//! Swagger UI in a real browser: authorize, execute, see it.
//!
//! Needs `chromium` and `chromedriver`; `tests/all.sh` installs them. Run with
//! `cargo test --features full --test browser`.

#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../support/client.rs"]
mod client;
#[path = "../support/patience.rs"]
mod patience;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "../examples/program.rs"]
mod program;

use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::patience::PATIENCE;
use crate::program::Program;

struct Browser {
    client: Client,
    _driver: Child,
    profile: tempfile::TempDir,
}

/// A test that fails does not close the session, and a browser lives longer than its driver.
impl Drop for Browser {
    fn drop(&mut self) {
        let profile = self.profile.path().to_str().unwrap().as_bytes();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if words.windows(profile.len()).any(|word| word == profile)
                && let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok())
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

async fn browser() -> Browser {
    let profile = tempfile::tempdir().unwrap();
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        // For all that it leaves.
        .env("TMPDIR", profile.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver is installed: tests/all.sh does it");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().expect("chromedriver says its port");
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            break port.trim_end_matches('.').to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let options = json!({ "goog:chromeOptions": { "args": [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1200,1600", format!("--user-data-dir={}", profile.path().display()),
    ] } });
    let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
        .capabilities(options.as_object().unwrap().clone())
        .connect(&format!("http://127.0.0.1:{port}"))
        .await
        .unwrap();
    Browser { client, _driver: driver, profile }
}

/// Clicks when the element can be clicked: the page still moves while parts of it unfold.
async fn click(page: &Client, css: &str) {
    let clicked = async {
        while let Err(error) = find(page, css).await.click().await {
            assert!(error.to_string().contains("intercepted"), "{css}: {error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, clicked).await.unwrap_or_else(|_| panic!("{css} cannot be clicked"));
}

async fn find(page: &Client, css: &str) -> fantoccini::elements::Element {
    let found = page.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
    found.unwrap_or_else(|error| panic!("{css}: {error}"))
}

/// Executes an operation and answers what the page shows of the answer.
async fn execute(page: &Client, operation: &str) -> String {
    click(page, &format!("{operation} .execute")).await;
    find(page, &format!("{operation} .live-responses-table .response-col_status")).await;
    find(page, &format!("{operation} .live-responses-table")).await.text().await.unwrap()
}

#[tokio::test]
async fn authorize_execute_see_it() {
    let service = Program::start(&[]).await;
    let id = service.offload("alice", "Sleep", json!({"seconds": 1000})).await;
    let browser = browser().await;
    let page = &browser.client;
    // Without the slash, as people type it.
    page.goto(&format!("http://{}/swagger-ui", service.address)).await.unwrap();

    let list = "#operations-background-tasks-listBackgroundTasks";
    click(page, &format!("{list} .opblock-summary-control")).await;
    let shown = execute(page, list).await;
    assert!(shown.contains("401") && shown.contains("Unidentified"), "{shown}");

    click(page, ".auth-wrapper .authorize").await;
    find(page, ".modal-ux input[type=text]").await.send_keys("alice").await.unwrap();
    click(page, ".modal-ux button.authorize").await;
    click(page, ".modal-ux button.btn-done").await;
    let shown = execute(page, list).await;
    assert!(shown.contains("200") && shown.contains(&id) && shown.contains("running"), "{shown}");

    let call = "#operations-agent-service-callTool";
    click(page, &format!("{call} .opblock-summary-control")).await;
    let shown = execute(page, call).await;
    assert!(
        shown.contains("200") && shown.contains("task_id"),
        "as it is filled in, it makes a task: {shown}"
    );

    page.refresh().await.unwrap();
    let get = "#operations-background-tasks-getBackgroundTask";
    click(page, &format!("{get} .opblock-summary-control")).await;
    let field = find(page, &format!("{get} .parameters input[type=text]")).await;
    field.clear().await.unwrap();
    field.send_keys(&id).await.unwrap();
    let shown = execute(page, get).await;
    assert!(shown.contains("200") && shown.contains(&id), "still authorized: {shown}");
    if let Ok(file) = std::env::var("SCREENSHOT") {
        std::fs::write(file, page.screenshot().await.unwrap()).unwrap();
    }
    browser.client.clone().close().await.unwrap();
}
