import KubeAPI

/// From a container's image to its start.
extension PodWorker {
  func start(
    _ container: PodManifest.Container, attempt: Int, backOffStep: Int
  ) async {
    let name = container.name
    func failed(_ reason: String, _ message: String, event: String = "Failed") {
      announce(event, message, container: name, isWarning: true)
      lifecycle.startFailed(name, reason: reason, message: message, now: .wallClock())
    }
    guard let image = await image(for: container, failed: failed) else { return }
    let runtime = environment.runtime
    guard let sandbox = runtime.pods(uid: pod.uid).last(where: \.isReady) else { return }
    let id: ContainerID
    do {
      let configuration = try await preparation.configuration(
        pod, container, image: image, attempt: attempt, backOffStep: backOffStep,
        addresses: environment.addresses,
        podAddress: pod.usesHostNetwork ? environment.addresses.first : sandbox.address)
      id = try await runtime.createContainer(in: sandbox.id, configuration)
    } catch let error as PreparationError {
      return failed("CreateContainerConfigError", "Error: \(error)")
    } catch let error as RuntimeError where error.code == .invalidConfiguration {
      return failed("CreateContainerConfigError", "Error: \(error)")
    } catch {
      return failed("CreateContainerError", "Error: \(error)")
    }
    lifecycle.started(name)
    announce("Created", "Created container: \(name)", container: name)
    do {
      try await runtime.startContainer(id)
      announce("Started", "Started container \(name)", container: name)
      await runPostStartHook(container, id)
    } catch {
      // The container has now ended with code 128: its restart follows the usual rules.
      announce("Failed", "Error: \(error)", container: name, isWarning: true)
    }
  }

  /// Finds or pulls an image by the container's policy; nil if it failed, which is noted then.
  private func image(
    for container: PodManifest.Container, failed: (String, String, String) -> Void
  ) async -> Image? {
    let reference = container.image
    let runtime = environment.runtime
    do {
      if container.pullPolicy != .always, let image = try await runtime.imageStatus(reference) {
        announce(
          "Pulled", "Container image \"\(reference)\" already present on machine",
          container: container.name)
        return image
      }
      if container.pullPolicy == .never {
        failed(
          "ErrImageNeverPull",
          "Container image \"\(reference)\" is not present with pull policy of Never",
          "ErrImageNeverPull")
        return nil
      }
      announce("Pulling", "Pulling image \"\(reference)\"", container: container.name)
      let image = try await runtime.pullImage(reference)
      announce(
        "Pulled",
        "Successfully pulled image \"\(reference)\" from the node's store. Image size: \(image.size) bytes.",
        container: container.name)
      return image
    } catch let error as ImageError where error.code == .invalidReference {
      failed(
        "InvalidImageName", "Failed to apply default image tag \"\(reference)\": \(error)",
        "InspectFailed")
    } catch {
      failed("ErrImagePull", "Failed to pull image \"\(reference)\": \(error)", "Failed")
    }
    return nil
  }
}
