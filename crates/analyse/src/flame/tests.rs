use super::*;
use crate::contexts;
use crate::synthetic::{Script, directory};

fn script(names: &[&str], serve: u64) -> Contexts {
    let mut script = Script::new(directory(names));
    script.enter(0, 0, 0).enter(1_000, 0, 1).enter(1_500, 0, 2).end(2_500, 0);
    script.end(3_000 + serve, 0).end(10_000, 0);
    contexts::of(&script)
}

fn written(flame: Flame<'_>, format: FlameFormat) -> String {
    let mut out = Vec::new();
    flame.write(&mut out, format).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn folded_text_has_a_line_for_each_context_with_time_of_its_own() {
    let contexts = script(&["main", "serve", "a;b"], 0);
    let text = written(Flame::new(&contexts, ""), FlameFormat::Folded);
    assert_eq!(text, "main 8000\nmain;serve 1000\nmain;serve;a:b 1000\n");
}

#[test]
fn compared_folded_text_has_both_numbers() {
    let before = script(&["main", "serve", "gone"], 0);
    let after = script(&["main", "serve", "new"], 500);
    let flame = Flame::new(&after, "").compared_with(&before);
    let expected =
        "main 8000 7500\nmain;serve 1000 1500\nmain;serve;gone 1000 0\nmain;serve;new 0 1000\n";
    assert_eq!(written(flame, FlameFormat::Folded), expected);
    assert_eq!(flame.changes().unwrap(), [0, 0, 500, 1000]);
}

#[test]
fn a_picture_is_whole_xml_whatever_names_are_like() {
    let contexts = script(&["main", "f<int, \"x\" & y>", "字符\u{1b}[0m]]>"], 0);
    let svg = written(Flame::new(&contexts, "a & b"), FlameFormat::Svg);
    assert!(svg.contains("data-n=\"f&lt;int, &quot;x&quot; &amp; y&gt;\""), "{svg}");
    assert!(svg.contains("字符\\u{1b}[0m]]&gt;"));
    assert!(svg.contains(">a &amp; b</text>"));
    assert!(svg.contains("f&lt;int, &quot;x&quot; &amp; y&gt; [app] (1 call, 2.000 us, 20.00 %"));
    assert_eq!(svg.matches("<g data-n").count(), svg.matches("</title><rect").count());
    assert!(!svg.contains('\u{1b}') && svg.ends_with("</svg>\n"));
    // Nothing is fetched from anywhere.
    assert_eq!(svg.matches("http").count(), 1);
}

#[test]
fn no_time_is_no_picture_but_no_error() {
    let contexts = contexts::of(&Script::new(directory(&["f"])));
    assert!(written(Flame::new(&contexts, ""), FlameFormat::Svg).contains("No time was spent"));
    assert_eq!(written(Flame::new(&contexts, ""), FlameFormat::Folded), "");
}
