//! stub
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(
    _: &Args,
    _: &mut crate::console::Console,
) -> crate::failure::Result<crate::failure::Exit> {
    todo!()
}
