//! Which route a path names.
//!
//! **Invariant:** one spelling for each route. A path is compared byte by byte as it came;
//! `//`, `%2e`, `..` or a slash at the end name nothing, so no store is ever reached by a
//! path that a proxy in front might have read differently.

use hyper::Method;

use crate::store_id::StoreId;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Ready,
    Metrics,
    Page,
    OpenApi,
    MakeToken,
    MakeTicket,
    Revoke,
    Stores,
    Facts(StoreId),
    Export(StoreId),
    Import(StoreId),
    Delete(StoreId),
    /// A WebSocket; channel 0 is this store if one is named.
    Sync(Option<StoreId>),
}

/// Why there is no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// Nothing has this path.
    Path,
    /// The path takes these methods only.
    Method(&'static str),
}

/// Finds the route.
///
/// # Errors
/// [`NoRoute`].
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, NoRoute> {
    let store = |name: &str| StoreId::new(name).ok_or(NoRoute::Path);
    let mut segments = path.strip_prefix('/').ok_or(NoRoute::Path)?.split('/');
    let words: [Option<&str>; 5] = std::array::from_fn(|_| segments.next());
    let (allowed, route) = match words {
        [Some("healthz"), None, ..] => ("GET", Route::Health),
        [Some("readyz"), None, ..] => ("GET", Route::Ready),
        [Some("metrics"), None, ..] => ("GET", Route::Metrics),
        [Some("sync"), None, ..] => ("GET", Route::Sync(None)),
        [Some("sync"), Some(name), None, ..] => ("GET", Route::Sync(Some(store(name)?))),
        [Some("api"), None, ..] => ("GET", Route::Page),
        [Some("api"), Some("openapi.json"), None, ..] => ("GET", Route::OpenApi),
        [Some("api"), Some("token"), None, ..] => ("POST", Route::MakeToken),
        [Some("api"), Some("ticket"), None, ..] => ("POST", Route::MakeTicket),
        [Some("api"), Some("revoke"), None, ..] => ("POST", Route::Revoke),
        [Some("api"), Some("stores"), None, ..] => ("GET", Route::Stores),
        [Some("api"), Some("stores"), Some(name), None, ..] => match *method {
            Method::DELETE => ("DELETE", Route::Delete(store(name)?)),
            Method::GET => ("GET", Route::Facts(store(name)?)),
            _ => ("GET, DELETE", Route::Facts(store(name)?)),
        },
        [Some("api"), Some("stores"), Some(name), Some("export"), None] => {
            ("GET", Route::Export(store(name)?))
        }
        [Some("api"), Some("stores"), Some(name), Some("import"), None] => {
            ("POST", Route::Import(store(name)?))
        }
        _ => return Err(NoRoute::Path),
    };
    if method.as_str() == allowed { Ok(route) } else { Err(NoRoute::Method(allowed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        let s = || StoreId::new("a.b-1").unwrap();
        let cases = [
            ("GET", "/healthz", Ok(Route::Health)),
            ("GET", "/sync", Ok(Route::Sync(None))),
            ("GET", "/sync/a.b-1", Ok(Route::Sync(Some(s())))),
            ("GET", "/api/stores/a.b-1", Ok(Route::Facts(s()))),
            ("DELETE", "/api/stores/a.b-1", Ok(Route::Delete(s()))),
            ("GET", "/api/stores/a.b-1/export", Ok(Route::Export(s()))),
            ("POST", "/api/stores/a.b-1/import", Ok(Route::Import(s()))),
            ("PUT", "/api/stores/a.b-1", Err(NoRoute::Method("GET, DELETE"))),
            ("POST", "/sync/a.b-1", Err(NoRoute::Method("GET"))),
            ("GET", "/sync/", Err(NoRoute::Path)),
            ("GET", "/sync//", Err(NoRoute::Path)),
            ("GET", "//sync/a.b-1", Err(NoRoute::Path)),
            ("GET", "/sync//a.b-1", Err(NoRoute::Path)),
            ("GET", "/sync/a.b-1/", Err(NoRoute::Path)),
            ("GET", "/sync/a%2eb-1", Err(NoRoute::Path)),
            ("GET", "/sync/.", Err(NoRoute::Path)),
            ("GET", "/sync/..", Err(NoRoute::Path)),
            ("GET", "/sync/..%2fapi", Err(NoRoute::Path)),
            ("GET", "/SYNC/a", Err(NoRoute::Path)),
            ("GET", "/sync/a/b", Err(NoRoute::Path)),
            ("GET", "/sync/a;b", Err(NoRoute::Path)),
            ("GET", "/api/stores/a/export/", Err(NoRoute::Path)),
            ("GET", "/api/stores/a/export/x/y", Err(NoRoute::Path)),
            ("GET", "/api/stores//export", Err(NoRoute::Path)),
            ("GET", "/api/../metrics", Err(NoRoute::Path)),
            ("GET", "", Err(NoRoute::Path)),
            ("GET", "/", Err(NoRoute::Path)),
            ("GET", "*", Err(NoRoute::Path)),
        ];
        for (method, path, expected) in cases {
            assert_eq!(route(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }
}
