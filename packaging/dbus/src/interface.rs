//! The published interfaces (D1-D10): which objects there are, what can be called on them, and what D-Bus itself
//! expects of every object.

/// Both names that are owned.
pub const NAMES: [&str; 2] = ["io.mender.UpdateManager", "io.mender.AuthenticationManager"];
/// The object that announces tokens.
pub const AUTHENTICATION_PATH: &str = "/io/mender/AuthenticationManager";
/// Its interface.
pub const AUTHENTICATION: &str = "io.mender.Authentication1";
/// The signal.
pub const TOKEN_STATE: &str = "JwtTokenStateChange";

const UPDATE_PATH: &str = "/io/mender/UpdateManager";
const UPDATE: &str = "io.mender.Update1";

const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const PEER: &str = "org.freedesktop.DBus.Peer";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Object, interface, and the file that describes it.
const OBJECTS: [(&str, &str, &str); 2] = [
    (UPDATE_PATH, UPDATE, include_str!("../io.mender.Update1.xml")),
    (AUTHENTICATION_PATH, AUTHENTICATION, include_str!("../io.mender.Authentication1.xml")),
];

const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n\
    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

/// What every object has.
const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg type="s" name="xml_data" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg type="s" name="machine_uuid" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="s" name="property_name" direction="in"/>
      <arg type="v" name="value" direction="out"/>
    </method>
    <method name="GetAll">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="a{sv}" name="properties" direction="out"/>
    </method>
    <method name="Set">
      <arg type="s" name="interface_name" direction="in"/>
      <arg type="s" name="property_name" direction="in"/>
      <arg type="v" name="value" direction="in"/>
    </method>
  </interface>
"#;

/// Each method with its interface and the types of its arguments.
const METHODS: [(&str, &str, &str); 9] = [
    (UPDATE, "SetUpdateControlMap", "s"),
    (AUTHENTICATION, "GetJwtToken", ""),
    (AUTHENTICATION, "FetchJwtToken", ""),
    (INTROSPECTABLE, "Introspect", ""),
    (PEER, "Ping", ""),
    (PEER, "GetMachineId", ""),
    (PROPERTIES, "Get", "ss"),
    (PROPERTIES, "GetAll", "s"),
    (PROPERTIES, "Set", "ssv"),
];

/// A call of a method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The object.
    pub path: String,
    /// The interface, which a caller may leave out.
    pub interface: Option<String>,
    /// The method.
    pub member: String,
    /// Types of the arguments.
    pub signature: String,
    /// Those of them that are texts.
    pub texts: Vec<String>,
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// That it is done.
    Nothing,
    /// `i`
    Number(i32),
    /// `b`
    Truth(bool),
    /// `s`
    Text(String),
    /// `ss`
    Texts(String, String),
    /// `a{sv}` without any
    NoProperties,
    /// An error: its name and text.
    Error(&'static str, String),
}

/// What stands behind the interfaces.
pub trait Service {
    /// Hands a map to the agent; returns the refresh time-out, or why not.
    fn set_map(&mut self, text: &str) -> Result<i32, String>;
    /// Token and server, both empty if there is none.
    fn token(&mut self) -> (String, String);
    /// Asks the agent for a new token; or why not.
    fn fetch_token(&mut self) -> Result<(), String>;
    /// Says something to whoever reads the log.
    fn log(&mut self, text: &str);
}

/// Answers a call.
pub fn answer(call: &Call, service: &mut impl Service) -> Answer {
    let (path, member, signature) = (call.path.as_str(), call.member.as_str(), call.signature.as_str());
    let interface = call.interface.as_deref();
    let unknown = |what: String| Answer::Error("org.freedesktop.DBus.Error.UnknownMethod", what);
    let own = OBJECTS.iter().find(|(object, ..)| *object == path).map(|(_, own, _)| *own);
    let below = children(path);
    if own.is_none() && below.is_empty() && interface != Some(PEER) {
        return unknown(format!("there is no object {path}"));
    }
    let offered = |name: &str| match own {
        Some(own) => name == own || [INTROSPECTABLE, PEER, PROPERTIES].contains(&name),
        None => [INTROSPECTABLE, PEER].contains(&name),
    };
    let wanted = |name: &str| offered(name) && interface.is_none_or(|given| given == name);
    let method = METHODS.iter().find(|(name, method, _)| wanted(name) && *method == member);
    let Some((interface, _, takes)) = method else {
        let interface = interface.map(|name| format!("{name}.")).unwrap_or_default();
        return unknown(format!("object {path} has no method {interface}{member}"));
    };
    if signature != *takes {
        let what = format!("{interface}.{member} takes arguments of the types ({takes}), not ({signature})");
        return Answer::Error("org.freedesktop.DBus.Error.InvalidArgs", what);
    }
    match (member, call.texts.as_slice()) {
        ("SetUpdateControlMap", [map]) => match service.set_map(map) {
            Ok(refresh) => Answer::Number(refresh),
            Err(why) => {
                service.log(&format!("SetUpdateControlMap: {why}"));
                // D1, D2: word for word.
                let text = "Method returned error, see Mender logs for more details";
                Answer::Error("io.mender.Failed", text.into())
            }
        },
        ("GetJwtToken", []) => {
            let (token, server) = service.token();
            Answer::Texts(token, server)
        }
        ("FetchJwtToken", []) => match service.fetch_token() {
            Ok(()) => Answer::Truth(true),
            Err(why) => {
                service.log(&format!("FetchJwtToken: {why}"));
                Answer::Truth(false)
            }
        },
        ("Introspect", []) => Answer::Text(introspection(path)),
        ("Ping", []) => Answer::Nothing,
        ("GetMachineId", []) => match machine_id() {
            Some(id) => Answer::Text(id),
            None => Answer::Error("org.freedesktop.DBus.Error.FileNotFound", "there is no machine ID".into()),
        },
        ("GetAll", [of]) if offered(of) => Answer::NoProperties,
        // There are no properties (D9).
        (_, of) => {
            Answer::Error("org.freedesktop.DBus.Error.InvalidArgs", format!("there is no {}", of.join(".")))
        }
    }
}

/// The names of the objects right below a path.
fn children(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = OBJECTS
        .iter()
        .filter_map(|(object, ..)| {
            object.strip_prefix(path.strip_suffix('/').unwrap_or(path))?.strip_prefix('/')?.split('/').next()
        })
        .collect();
    names.dedup();
    names
}

fn introspection(path: &str) -> String {
    let mut xml = format!("{DOCTYPE}<node>\n");
    if let Some((_, _, file)) = OBJECTS.iter().find(|(object, ..)| *object == path) {
        xml += STANDARD;
        let end = "</interface>\n";
        let from = file.find("  <interface").unwrap_or_default();
        let to = file.rfind(end).map_or(file.len(), |at| at + end.len());
        xml += &file[from..to];
    }
    for child in children(path) {
        xml += &format!("  <node name=\"{child}\"/>\n");
    }
    xml + "</node>\n"
}

fn machine_id() -> Option<String> {
    let read = |path| std::fs::read_to_string(path).ok();
    let text = read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id"))?;
    let id = text.trim();
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Service for Nothing {
        fn set_map(&mut self, _: &str) -> Result<i32, String> {
            Ok(7)
        }
        fn token(&mut self) -> (String, String) {
            ("t".into(), "s".into())
        }
        fn fetch_token(&mut self) -> Result<(), String> {
            Err("no".into())
        }
        fn log(&mut self, _: &str) {}
    }

    fn ask(path: &str, interface: Option<&str>, member: &str, texts: &[&str]) -> Answer {
        let call = Call {
            path: path.into(),
            interface: interface.map(str::to_owned),
            member: member.into(),
            signature: "s".repeat(texts.len()),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        answer(&call, &mut Nothing)
    }

    fn error_of(answer: Answer) -> &'static str {
        match answer {
            Answer::Error(name, _) => name.rsplit('.').next().expect("a word"),
            other => panic!("no error: {other:?}"),
        }
    }

    #[test]
    fn calls_find_their_method_with_and_without_an_interface() {
        for interface in [None, Some(UPDATE)] {
            assert_eq!(ask(UPDATE_PATH, interface, "SetUpdateControlMap", &["{}"]), Answer::Number(7));
        }
        let session = Answer::Texts("t".into(), "s".into());
        assert_eq!(ask(AUTHENTICATION_PATH, None, "GetJwtToken", &[]), session);
        assert_eq!(ask(AUTHENTICATION_PATH, None, "FetchJwtToken", &[]), Answer::Truth(false));
        assert_eq!(ask("/anything", Some(PEER), "Ping", &[]), Answer::Nothing);
        assert_eq!(ask(UPDATE_PATH, Some(PROPERTIES), "GetAll", &[UPDATE]), Answer::NoProperties);
    }

    #[test]
    fn other_calls_are_refused() {
        for (path, interface, member, texts, error) in [
            ("/io/mender/Other", None, "GetJwtToken", [].as_slice(), "UnknownMethod"),
            (UPDATE_PATH, None, "GetJwtToken", &[], "UnknownMethod"),
            (UPDATE_PATH, Some(AUTHENTICATION), "GetJwtToken", &[], "UnknownMethod"),
            (AUTHENTICATION_PATH, Some(AUTHENTICATION), "Ping", &[], "UnknownMethod"),
            ("/io/mender", Some(PROPERTIES), "GetAll", &[UPDATE], "UnknownMethod"),
            (UPDATE_PATH, Some(UPDATE), "SetUpdateControlMap", &[], "InvalidArgs"),
            (UPDATE_PATH, Some(UPDATE), "SetUpdateControlMap", &["{}", "{}"], "InvalidArgs"),
            (AUTHENTICATION_PATH, None, "GetJwtToken", &["x"], "InvalidArgs"),
            (UPDATE_PATH, Some(PROPERTIES), "Get", &[UPDATE, "Version"], "InvalidArgs"),
            (UPDATE_PATH, Some(PROPERTIES), "GetAll", &[AUTHENTICATION], "InvalidArgs"),
        ] {
            assert_eq!(error_of(ask(path, interface, member, texts)), error, "{path} {member}");
        }
    }

    #[test]
    fn the_tree_can_be_walked() {
        assert_eq!(children("/"), ["io"]);
        assert_eq!(children("/io/mender"), ["UpdateManager", "AuthenticationManager"]);
        assert!(children("/io/men").is_empty() && children(UPDATE_PATH).is_empty());
        let xml = introspection(UPDATE_PATH);
        assert!(xml.contains("SetUpdateControlMap") && !xml.contains("GetJwtToken"), "{xml}");
    }
}
