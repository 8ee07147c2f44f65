//! An etcd that asks who its clients are: by certificate, and by password.

use std::fs;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Permission};
use serde_json::json;
use weir::rollout::ledger::etcd::{EtcdStore, Options, Tls, User};
use weir::rollout::ledger::{Error, StateStore};
use weir_tests::certificates::{Authority, Files};
use weir_tests::ledger::etcd::Etcd;

use super::world::{says, shop};

fn options(endpoint: String) -> Options {
    let options = Options::new(vec![endpoint], "one".to_owned());
    Options { lease: Duration::from_secs(2), limit: Duration::from_secs(2), ..options }
}

/// Leads, saves, and loads.
async fn works(options: Options) {
    let store = EtcdStore::new(options).unwrap();
    let leadership = store.campaign().await.unwrap();
    let read = store.version(&shop()).await.unwrap();
    store.save(leadership.fence(), &shop(), read, says(json!("safe"))).await.unwrap();
    assert_eq!(store.load(&shop()).await.unwrap().unwrap().document, json!("safe"));
    leadership.resign().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_certificate() {
    let files = Files::new().unwrap();
    let [authority, stranger] = [Authority::new().unwrap(), Authority::new().unwrap()];
    let ca = files.write("ca.pem", &authority.pem()).unwrap();
    let (certificate, key) = files.identity("server", &authority.issue("etcd").unwrap()).unwrap();
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let etcd = Etcd::start_with(&[
        flag("cert-file", &certificate),
        flag("key-file", &key),
        flag("trusted-ca-file", &ca),
        "--client-cert-auth".to_owned(),
    ])
    .unwrap();
    let with = |ca: &Path, identity| Options {
        tls: Some(Tls { ca: ca.to_owned(), identity }),
        ..options(etcd.endpoint())
    };
    let own = files.identity("own", &authority.issue("weir").unwrap()).unwrap();
    works(with(&ca, Some(own.clone()))).await;

    // A client without a certificate, one of another authority, and one that another's etcd meets.
    let foreign = files.identity("foreign", &stranger.issue("weir").unwrap()).unwrap();
    let other = files.write("other.pem", &stranger.pem()).unwrap();
    for (ca, identity) in [(&ca, None), (&ca, Some(foreign)), (&other, Some(own.clone()))] {
        let store = EtcdStore::new(with(ca, identity)).unwrap();
        let error = store.load(&shop()).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
    }
    // Files are read when a connection is made: certificates may be renewed.
    let store = EtcdStore::new(with(&ca, Some(own.clone()))).unwrap();
    let whole = fs::read(&own.0).unwrap();
    fs::remove_file(&own.0).unwrap();
    let said = store.load(&shop()).await.unwrap_err().to_string();
    assert!(said.contains("certificate: ") && said.contains("own.pem: No such file"), "{said}");
    fs::write(&own.0, whole).unwrap();
    store.load(&shop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_password() {
    let etcd = Etcd::start().unwrap();
    let mut admin = Client::connect([etcd.endpoint()], None).await.unwrap();
    for (user, role, prefix) in [("weir", "weir", "/weir/"), ("guest", "guest", "/guest/")] {
        admin.user_add(user, "secret", None).await.unwrap();
        admin.role_add(role).await.unwrap();
        let right = Permission::read_write(prefix).with_prefix();
        admin.role_grant_permission(role, right).await.unwrap();
        admin.user_grant_role(user, role).await.unwrap();
    }
    admin.user_add("root", "secret", None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    admin.auth_enable().await.unwrap();

    let with = |name: &str, password: &str| {
        let (name, password) = (name.to_owned(), password.to_owned());
        Options { user: Some(User { name, password }), ..options(etcd.endpoint()) }
    };
    works(with("weir", "secret")).await;
    for options in [with("weir", "wrong"), with("guest", "secret"), options(etcd.endpoint())] {
        let store = EtcdStore::new(options).unwrap();
        let error = store.load(&shop()).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }) && error.is_outage(), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let root = ConnectOptions::new().with_user("root", "secret");
    let mut root = Client::connect([etcd.endpoint()], Some(root)).await.unwrap();
    root.auth_disable().await.unwrap();
}
